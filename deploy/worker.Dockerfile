# A worker. TORCH_INDEX chooses the build: the CPU one here, a CUDA one for the GPU profile.
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
COPY requirements.lock pyproject.toml README.md ./
COPY saddlescope saddlescope
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch==2.13.0 \
 && pip install --no-cache-dir --constraint requirements.lock ".[service,otel,s3]"
COPY store store
COPY telemetry telemetry
COPY workers workers
COPY migrations migrations
RUN useradd --system --uid 10001 saddlescope \
 && mkdir /data /scratch && chown saddlescope /data /scratch
USER 10001
ENV SADDLESCOPE_WORKER_SCRATCH=/scratch SADDLESCOPE_WORKER_METRICS_HOST=0.0.0.0 SADDLESCOPE_WORKER_METRICS_PORT=9101 \
    PYTHONDONTWRITEBYTECODE=1
EXPOSE 9101
HEALTHCHECK --interval=15s --timeout=3s --start-period=120s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9101/metrics', timeout=2)"]
CMD ["python", "-m", "workers", "--queue", "cpu"]
