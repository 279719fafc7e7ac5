# speech2lip in a container, by a user who is not root. From a checkout:
#
#   docker build --tag speech2lip .                                   CPU
#   docker build --tag speech2lip --build-arg EXTRA=cuda12 .          NVIDIA GPU; run it with --gpus all
#   docker run --rm --volume "$PWD:/work" --volume speech2lip:/home/speech2lip speech2lip dub --video talk.mp4 --audio a.wav --out out.mp4
#
# /work is the folder that commands work in. /home/speech2lip keeps the landmark model (.cache/speech2lip/face_landmarker.task), what JAX
# has compiled, and the key that videos are signed with. CUDA comes with the wheels of the extra: the image needs none of its own.
FROM python:3.12-slim-bookworm

RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libegl1 libgles2 espeak-ng \
 && rm -rf /var/lib/apt/lists/*

# Further optional parts, with commas: cuda12, cuda13, tts, speech …
ARG EXTRA=
# A copy of the checkout, since a build writes into it.
COPY . /tmp/speech2lip
RUN pip install --no-cache-dir "/tmp/speech2lip[preprocess${EXTRA:+,$EXTRA}]" \
 && rm -rf /tmp/speech2lip

# Anyone may write into the home, so that --user "$(id -u):$(id -g)" works too.
RUN useradd --create-home --uid 1000 speech2lip \
 && mkdir /work \
 && chmod 1777 /home/speech2lip /work \
 && chown speech2lip:speech2lip /work
USER speech2lip
ENV HOME=/home/speech2lip NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME ["/home/speech2lip", "/work"]
WORKDIR /work
ENTRYPOINT ["speech2lip"]
CMD ["--help"]
