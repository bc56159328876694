# The training service and its worker processes, on CPU.
# Build from the root of the repository: docker build -f docker/training.Dockerfile -t keeptune-training .
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY constraints constraints
RUN pip install --no-cache-dir --requirement constraints/uv.txt && uv venv /opt/keeptune
COPY . .
RUN uv pip install --no-cache --python /opt/keeptune --torch-backend cpu \
    --constraints constraints/torch.txt --constraints constraints/all.txt ".[training]"

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 keeptune && install --directory --owner keeptune /data
COPY --from=build /opt/keeptune /opt/keeptune
COPY docker/healthcheck.py /opt/keeptune/healthcheck.py
ENV PATH=/opt/keeptune/bin:$PATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 7312
HEALTHCHECK --start-period=60s CMD ["python", "/opt/keeptune/healthcheck.py", "localhost:7312"]
ENTRYPOINT ["keeptune", "serve", "training"]
