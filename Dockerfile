# s3bench with its optimizers and trackers:
#
#     docker build -t s3bench .
#     docker run --rm -v "$PWD/results:/s3bench/results" s3bench sweep experiment=quickstart
#
# BASE: any image with Python 3.11 to 3.13; on GPUs one of CUDA's that has it, and `docker run --gpus all`.
# PIP_FIND_LINKS: where pip finds other builds too, such as a torch without CUDA, which is much smaller.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG PIP_FIND_LINKS
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY s3bench s3bench
COPY optimizers optimizers
COPY tasks tasks
COPY configs configs
RUN python -m pip install --constraint constraints.txt '.[zoo,tensorboard,mlflow]'
# results/ is there to be mounted; prepared data go to .cache
WORKDIR /s3bench
ENV HOME=/s3bench
ENTRYPOINT ["s3bench"]
CMD ["--help"]
