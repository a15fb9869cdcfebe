#!/usr/bin/env bash
# Builds the worker's image with Docker and pushes it to the account's own registry; prints what `sam deploy` needs.
# `push.sh [docker build options]`, with the AWS command line signed in; REPOSITORY and TAG name other ones.
set -euo pipefail
cd "$(dirname "$0")/.."

REPOSITORY=${REPOSITORY:-transcoder}
TAG=${TAG:-$(git rev-parse --short=12 HEAD)}

repository() {
    aws ecr describe-repositories --repository-names "$REPOSITORY" --query 'repositories[0].repositoryUri' --output text
}

if [ "$TAG" = "$(git rev-parse --short=12 HEAD)" ] && [ -n "$(git status --porcelain)" ]; then
    echo "There are changes that are not committed, and the image is named by the commit: commit them, or set TAG." >&2
    exit 1
fi
# A tag is never moved, so that a revision of the job definition always means the same image.
uri=$(repository 2>/dev/null) || {
    aws ecr create-repository --repository-name "$REPOSITORY" --image-tag-mutability IMMUTABLE \
        --image-scanning-configuration scanOnPush=true >/dev/null
    uri=$(repository)
}
docker build --platform linux/amd64 --file container/Dockerfile --tag "$uri:$TAG" "$@" . >&2
aws ecr get-login-password | docker login --username AWS --password-stdin "${uri%%/*}" >&2
docker push "$uri:$TAG" >&2
echo "WorkerImage=$uri:$TAG"
