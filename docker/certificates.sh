#!/usr/bin/env bash
# Makes docker/certificates: an authority of our own and one certificate for all services of
# compose.yaml. Further host names, such as those by which agents reach this machine, are arguments.
# Run as root: the key is for the user of the containers alone.

set -euo pipefail
cd "$(dirname "$0")"

CONTAINER_USER=10001
DAYS=825
folder=certificates

((EUID == 0)) || { echo "$0: run as root, the key must belong to user $CONTAINER_USER" >&2; exit 1; }
[[ ! -e $folder ]] || { echo "$0: docker/$folder is there; remove it to begin again" >&2; exit 1; }

names=localhost,search,training,evaluation,deployment,retuning
for name in "$@"; do names+=,$name; done
alternatives=DNS:${names//,/,DNS:},IP:127.0.0.1

partial=$(mktemp -d ./certificates.XXXXXX)
trap 'rm -rf "$partial"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$DAYS" \
  -subj "/CN=keeptune authority" -keyout "$partial/ca.key" -out "$partial/ca.pem" \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
  2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=keeptune" \
  -keyout "$partial/server.key" -out "$partial/server.csr" 2>/dev/null
openssl x509 -req -in "$partial/server.csr" -CA "$partial/ca.pem" -CAkey "$partial/ca.key" \
  -CAcreateserial -days "$DAYS" -out "$partial/server.pem" \
  -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$alternatives") 2>/dev/null
rm "$partial"/*.csr "$partial"/*.srl
chmod 0755 "$partial"
chmod 0644 "$partial"/*.pem
chmod 0400 "$partial"/*.key
chown "$CONTAINER_USER" "$partial/server.key"
# The authority's key signs further certificates; no container may see it.
mv "$partial/ca.key" certificates-ca.key
mv "$partial" "$folder"
trap - EXIT
echo "made docker/$folder for $names; keep docker/certificates-ca.key to yourself" >&2
