#!/bin/sh
# Make a virtual environment on a bare Debian-like machine: venv.sh FOLDER
# Installs python3-venv where it is missing (as root), or says what to run.
set -eu
folder=$1
python=${PYTHON:-python3}

say() { printf 'cachelayer: %s\n' "$*" >&2; }

command -v "$python" >/dev/null 2>&1 || { say "no $python here: install Python 3.11 or newer"; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "$("$python" --version) is too old: cachelayer needs Python 3.11 or newer (set PYTHON=python3.12, say)"
    exit 1
}
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    package=$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing $package"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
    else
        say "Python's venv module is missing. Run: sudo apt-get install $package"
        exit 1
    fi
fi
[ -x "$folder/bin/python" ] && "$folder/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$folder"
# Dependency groups need pip 25.1.
"$folder/bin/python" -m pip install -q --upgrade 'pip>=25.1'
