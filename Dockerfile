# One image for every role of docker-compose.yml: migration, code server, webserver, daemon.
FROM python:3.12-slim

RUN useradd --create-home --uid 10001 ffpe \
    && install --directory --owner=ffpe /var/lib/ffpe /srv/ffpe
WORKDIR /srv/ffpe

# Dependencies change less often than code; this layer is built once.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY featurestore featurestore
COPY models models
COPY analysis analysis
COPY orchestration orchestration
COPY migrations migrations
RUN pip install --no-cache-dir --constraint constraints.txt .

COPY studies studies
USER ffpe
ENV FFPE_HOME=/var/lib/ffpe
CMD ["ffpe", "--help"]
