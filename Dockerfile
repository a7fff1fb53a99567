# s3bench with its optimizers and trackers:
#
#     docker build -t s3bench .
#     docker run --rm -v "$PWD/results:/work/results" s3bench sweep experiment=quickstart
#
# BASE: any image with Python 3.11 to 3.13; on GPUs one of CUDA's that has it, and `docker run --gpus all`.
# TORCH_INDEX: where pip finds another build of torch, such as one without CUDA, which is much smaller.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG TORCH_INDEX=
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY s3bench s3bench
COPY optimizers optimizers
COPY tasks tasks
COPY configs configs
RUN python -m pip install --constraint constraints.txt ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch torchvision \
    && python -m pip install --constraint constraints.txt '.[zoo,tensorboard,mlflow]'
# results/ is there to be mounted; prepared data go to .cache
WORKDIR /work
ENV HOME=/work
ENTRYPOINT ["s3bench"]
CMD ["--help"]
