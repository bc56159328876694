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

# No change may break a client in the field: compare with the protos as they were before it, that is
# with the last commit, or with its parent where nothing is left to commit.
breaking() {
  local base=${KEEPTUNE_PROTO_BASE:-}
  if [[ -z $base ]]; then
    git diff --quiet HEAD -- protos && base=HEAD~1 || base=HEAD
  fi
  git cat-file -e "$base:buf.yaml" 2>/dev/null || return 0
  buf breaking --against ".git#ref=$(git rev-parse "$base")"
}

check ruff ruff check --quiet --output-format concise
check format ruff format --check --quiet --output-format concise
check protos buf lint
check breaking breaking
check layers lint-imports --no-logo
check types mypy --no-error-summary
check dockerfiles hadolint docker/*.Dockerfile

if ((${#failed[@]})); then
  printf 'lint: FAILED: %s\n' "${failed[*]}"
  exit 1
fi
