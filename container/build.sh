#!/usr/bin/env bash
# Builds the image IMAGE with buildah, as root and without a daemon: `build.sh [buildah build options]`.
# Without BASE_IMAGE it makes a base of Debian's own packages with debootstrap first, once.
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE=${IMAGE:-transcoder}
DEBIAN=${DEBIAN:-bookworm}

# Where overlays cannot be mounted, as in some containers, STORAGE_DRIVER=vfs copies each layer instead.
buildah() {
    command buildah ${STORAGE_DRIVER:+--storage-driver "$STORAGE_DRIVER"} "$@"
}

debian_base() {
    local root base container
    root=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$root'" EXIT
    debootstrap --variant=minbase --include=python3 "$DEBIAN" "$root/system" >&2
    rm -rf "$root"/system/{var/cache/apt/*,var/lib/apt/lists/*,var/log/*,usr/share/{doc,man,info,locale}/*}
    tar -C "$root/system" -cf "$root/base.tar" .
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$root/base.tar" / >&2
    buildah commit --quiet --rm "$container" "$1" >&2
}

if [ -z "${BASE_IMAGE:-}" ]; then
    BASE_IMAGE=localhost/debian-python:$DEBIAN
    buildah inspect --type image "$BASE_IMAGE" >/dev/null 2>&1 || debian_base "$BASE_IMAGE"
fi
# PIP_CERT, where it is set, is the certificate that pip needs on this network.
buildah build --isolation chroot --layers --file container/Dockerfile --tag "$IMAGE" \
    --build-arg BASE_IMAGE="$BASE_IMAGE" ${PIP_CERT:+--secret id=ca,src="$PIP_CERT"} "$@" .
