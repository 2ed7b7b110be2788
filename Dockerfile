# syntax=docker/dockerfile:1
# An image of the three programs with a starter site: scripts/README.md says how to run it, and what io_uring needs.
FROM rust:1-slim-bookworm AS build
# npm fetches the prebuilt DuckDB; where it does not fit, g++ compiles it from source, which takes 20 minutes on two cores.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates g++ make npm && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# What `starting` in the log shows: --build-arg TWINTIER_COMMIT=$(git rev-parse --short HEAD)
ARG TWINTIER_COMMIT=""
RUN TWINTIER_COMMIT="$TWINTIER_COMMIT" make build && make install DESTDIR=/out PREFIX=/usr/local

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends libstdc++6 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/usr/local /usr/local
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin twintier \
    && twintier init /etc/twintier && install -d -o twintier -g twintier /var/lib/twintier
USER twintier
# The database's path in the profile is relative to it.
WORKDIR /var/lib/twintier
VOLUME /var/lib/twintier
EXPOSE 8080
# Drains; what is not done within timeouts.drain_ms (10 s) is cut: docker stop --time 15.
STOPSIGNAL SIGTERM
# The admin interface stays on the container's own loopback, which is where this asks.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["twintier", "claim", "--admin", "127.0.0.1:8081"]
ENTRYPOINT ["twintier"]
CMD ["serve", "--profile", "/etc/twintier/twintier.toml", "--set", "listen.http=0.0.0.0:8080"]
