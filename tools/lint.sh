#!/usr/bin/env bash
# Every check that needs no test to run. All of them run, then the script fails if one did.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=$PWD/.venv/bin:$PATH

failed=()
check() { # name command...
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    printf 'lint: %-14s ok  %3ds\n' "$name" $((SECONDS - start))
  else
    printf 'lint: %-14s FAILED\n' "$name"
    failed+=("$name")
  fi
}

# A pull request may not break a client in the field: compare with what the protos were.
breaking() {
  local base=${KEEPTUNE_PROTO_BASE:-HEAD}
  git cat-file -e "$base:buf.yaml" 2>/dev/null || return 0
  buf breaking --against ".git#ref=$(git rev-parse "$base")"
}

check ruff ruff check --quiet
check format ruff format --check --quiet
check protos buf lint
check breaking breaking
check layers lint-imports
check types mypy
check dockerfiles hadolint docker/*.Dockerfile

if ((${#failed[@]})); then
  printf 'lint: FAILED: %s\n' "${failed[*]}"
  exit 1
fi
