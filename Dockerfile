# opdflow for CPU, in an image of about 650 MB. `docker build -t opdflow .`, then
#   docker run --rm -v "$PWD:/work" -v opdflow-store:/store opdflow run recipe.yaml
# For GPUs build in an image that has PyTorch for CUDA instead (docs/how-to/gpu.md).

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ make python3 python3-pip binutils git && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make dist && mkdir /out && tar -C /out --strip-components 1 -xzf dist/opdflow-*.tar.gz

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libstdc++6 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out /usr/local
ENV OPDFLOW_STORE=/store
VOLUME /store
WORKDIR /work
ENTRYPOINT ["opdflow"]
