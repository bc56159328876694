# Sourced by the other scripts here: where things are, and how uv finds packages.
#
# uv does not read pip's configuration. Whoever set pip up on this machine (a folder of wheels, a
# mirror, a certificate) meant it for every installer, so it is handed on; what the user told uv wins.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
UV_HOME=.cache/uv-$(sed -n 's/^uv==//p' constraints/uv.txt)
UV=$UV_HOME/bin/uv
VENV=.venv
SERVING_HOST=.serving-host

say() { printf '\033[1mset-up:\033[0m %s\n' "$*" >&2; }
die() { printf 'set-up: %s\n' "$*" >&2; exit 1; }

# The value pip uses for an option: its environment variable, else its configuration, else nothing.
pip_option() {
  local variable=PIP_${1^^}
  variable=${variable//-/_}
  if [[ -n ${!variable:-} ]]; then
    printf '%s' "${!variable}"
  else
    "$PYTHON" -m pip config get "global.$1" 2>/dev/null || true
  fi
}

bridge_pip_to_uv() {
  local links index certificate
  links=$(pip_option find-links)
  index=$(pip_option index-url)
  certificate=$(pip_option cert)
  # pip separates by white space, uv by commas.
  [[ -n $links ]] && export UV_FIND_LINKS=${UV_FIND_LINKS:-$(echo $links | tr ' ' ',')}
  [[ -n $index ]] && export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  [[ -n $certificate ]] && export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificate}
  return 0
}
