#!/bin/sh
# On the machine without internet, where `make wheelhouse` has been copied to:  sh install.sh [FOLDER]
# Unpacks the project into FOLDER/hw1 (default: this folder) and installs it into FOLDER/hw1/.venv.  PYTHON=python3.12 chooses another.
set -eu
wheels=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$wheels}
(cd "$wheels" && sha256sum --check --quiet SHA256SUMS) # a copy that broke off is told before anything is installed
mkdir -p "$folder"
tar -xzf "$wheels/hw1.tar.gz" -C "$folder"
cd "$folder/hw1"
"${PYTHON:-python3.11}" -m venv .venv
.venv/bin/python -m pip install --disable-pip-version-check --no-index --find-links "$wheels" \
    -r requirements.txt -r requirements-onnx.txt -c requirements.lock
echo "installed; try: cd $PWD && .venv/bin/python train.py recipes/quickstart.yaml"
