"""Things run by hand or by a scheduler around the harness: clusters, dashboards, benchmarks."""
