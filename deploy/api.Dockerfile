# The API and its migrations. No torch: what is uploaded here is never evaluated here.
FROM python:3.11-slim
WORKDIR /app
COPY requirements.lock pyproject.toml README.md ./
COPY saddlescope saddlescope
RUN pip install --no-cache-dir --constraint requirements.lock ".[service,otel,s3]" \
 && ! python -c "import torch" 2>/dev/null
COPY store store
COPY telemetry telemetry
COPY service service
COPY migrations migrations
RUN useradd --system --uid 10001 saddlescope && mkdir /data && chown saddlescope /data
# By number: Kubernetes must be able to see that it is not root.
USER 10001
ENV SADDLESCOPE_DATA=/data SADDLESCOPE_AUTH=keys PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["python", "-m", "service", "--api-only", "--host", "0.0.0.0", "--port", "8000"]
