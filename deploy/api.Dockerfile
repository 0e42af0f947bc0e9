# The API and its migrations. No torch: what is uploaded here is never evaluated here.
FROM python:3.11-slim
WORKDIR /app
COPY requirements.lock pyproject.toml README.md ./
COPY saddlescope saddlescope
RUN pip install --no-cache-dir --constraint requirements.lock ".[service,s3]" \
 && ! python -c "import torch" 2>/dev/null
COPY store store
COPY service service
COPY migrations migrations
RUN useradd --system --uid 10001 saddlescope && mkdir /data && chown saddlescope /data
USER saddlescope
ENV SADDLESCOPE_DATA=/data SADDLESCOPE_AUTH=keys
EXPOSE 8000
CMD ["python", "-m", "service", "--api-only", "--host", "0.0.0.0", "--port", "8000"]
