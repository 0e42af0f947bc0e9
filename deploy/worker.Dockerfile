# A worker. TORCH_INDEX chooses the build: the CPU one here, a CUDA one for the GPU profile.
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
COPY requirements.lock pyproject.toml README.md ./
COPY saddlescope saddlescope
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch==2.13.0 \
 && pip install --no-cache-dir --constraint requirements.lock ".[service,s3]"
COPY store store
COPY workers workers
COPY migrations migrations
RUN useradd --system --uid 10001 saddlescope && mkdir /data && chown saddlescope /data
USER saddlescope
CMD ["python", "-m", "workers", "--queue", "cpu"]
