#!/usr/bin/env bash
# Renews constraints/all.txt from pyproject.toml; versions that still fit stay as they are, unless
# --upgrade is given. torch and what hangs on its build stand apart, in constraints/torch.txt.

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

bridge_pip_to_uv
"$UV" pip compile --quiet pyproject.toml --all-extras --python "$VENV" \
  --constraints constraints/torch.txt --no-emit-package torch --no-header --no-annotate \
  --output-file constraints/all.txt "$@" >/dev/null
! grep -nE '^(nvidia-|triton==)' constraints/all.txt || die "constraints/all.txt names CUDA packages"
