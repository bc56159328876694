# The agent: runs beside Triton on a serving host, in its network namespace; dials out only.
# Build from the root of the repository: docker build -f docker/agent.Dockerfile -t keeptune-agent .
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY constraints constraints
RUN pip install --no-cache-dir --requirement constraints/uv.txt && uv venv /opt/keeptune
COPY . .
RUN uv pip install --no-cache --python /opt/keeptune --torch-backend cpu \
    --constraints constraints/torch.txt --constraints constraints/all.txt ".[agent]"

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 keeptune && install --directory --owner keeptune /data
COPY --from=build /opt/keeptune /opt/keeptune
COPY docker/healthcheck.py /opt/keeptune/healthcheck.py
ENV PATH=/opt/keeptune/bin:$PATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
USER 10001
WORKDIR /data
VOLUME /data
ENTRYPOINT ["keeptune", "agent", "run"]
