#!/usr/bin/env bash
# Makes the two environments of the project, with every version pinned (see constraints/):
#
#   .venv/           keeptune itself, editable, with all roles and the developer's tools
#   .serving-host/   what stands on a serving host beside Triton: nvidia-pytriton, numpy 1.26
#
# install.sh main|serving-host. `make setup` calls it and remembers that it was done.

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

bootstrap_uv() {
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python 3.11 or newer is needed, $PYTHON is $("$PYTHON" --version). Set PYTHON=..."
  [[ -x $UV ]] && return
  say "getting uv"
  # --target needs neither ensurepip nor leave to write into the system's Python.
  local partial=$UV_HOME.partial
  rm -rf "$partial"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
    --target "$partial" -r constraints/uv.txt
  mkdir -p .cache && rm -rf "$UV_HOME" && mv "$partial" "$UV_HOME"
}

make_venv() { # folder
  [[ -x $1/bin/python ]] || "$UV" venv --quiet --clear --python "$PYTHON" "$1"
}

# The CUDA build of torch brings gigabytes that nobody asked for: look first, and let people choose.
refuse_surprising_cuda() {
  [[ ${KEEPTUNE_TORCH:-} == cuda ]] && return
  local plan
  plan=$("$UV" pip install --dry-run "$@" 2>&1) || die "$plan"
  if grep -qE '^ *\+ *nvidia-' <<<"$plan"; then
    die "this would download the CUDA build of torch, several gigabytes. Choose one:
  KEEPTUNE_TORCH=cpu  make setup    the CPU build, from the index of the PyTorch project
  KEEPTUNE_TORCH=cuda make setup    the CUDA build, to train on a GPU
  PIP_FIND_LINKS=DIR  make setup    a folder of wheels that holds a CPU build"
  fi
}

install_main() {
  say "installing keeptune with all roles into $VENV"
  make_venv "$VENV"
  local options=(--python "$VENV" --constraints constraints/torch.txt --constraints constraints/all.txt)
  case ${KEEPTUNE_TORCH:-} in
    "" | cuda) ;;
    cpu) options+=(--torch-backend cpu) ;;
    *) die "KEEPTUNE_TORCH is '$KEEPTUNE_TORCH'; it may be cpu, cuda or unset" ;;
  esac
  options+=(--editable ".[all,dev]")
  refuse_surprising_cuda "${options[@]}"
  "$UV" pip install --quiet "${options[@]}"
}

install_serving_host() {
  say "installing Triton and its Python into $SERVING_HOST"
  make_venv "$SERVING_HOST"
  "$UV" pip install --quiet --python "$SERVING_HOST" --no-deps -r constraints/serving-host.txt
}

bridge_pip_to_uv
bootstrap_uv
case ${1:-} in
  main) install_main ;;
  serving-host) install_serving_host ;;
  *) die "usage: $0 main|serving-host" ;;
esac
