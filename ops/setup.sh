# Sourced by ops/demo and ops/test: prepares .venv and RabbitMQ on a Debian or Ubuntu machine, and
# says in one sentence what is missing where it may not install. Writes nothing outside .venv but
# the system's own packages.

export PYTHONPYCACHEPREFIX="$PWD/.venv/cache/python"
unset PYTHONDONTWRITEBYTECODE # or every service would compile its modules at every start
export PIP_CACHE_DIR="$PWD/.venv/cache/pip"
export PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_ROOT_USER_ACTION=ignore

fail() {
  echo "montemq: $*" >&2
  exit 2
}

# apt_install PACKAGE WHAT: installs a Debian package, or says how.
apt_install() {
  command -v apt-get >/dev/null || fail "$2 is missing; install it with your package manager ($1)"
  [ "$(id -u)" = 0 ] || fail "$2 is missing; install it with: sudo apt-get install $1"
  echo "installing $1 with apt-get …" >&2
  # A package may start a service of its own; ours is private, so none is wanted.
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e "$policy" ]; then
    trap "rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=1
  fi
  local status=0
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends "$1"; } >/dev/null 2>&1 </dev/null || status=$?
  [ -z "$made" ] || { rm -f "$policy" && trap - EXIT; }
  [ "$status" = 0 ] || fail "apt-get could not install $1; try: apt-get install $1"
}

python_is_fine() { python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# prepare LOCK EXTRA: a virtual environment with what the lock file pins, and this project.
prepare() {
  command -v python3 >/dev/null || apt_install python3 "Python"
  python_is_fine || fail "Python 3.11 or later is needed, python3 is $(python3 --version 2>&1)"
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null ||
    apt_install rabbitmq-server "RabbitMQ"
  local stamp
  stamp="$(cat "$1" pyproject.toml | sha256sum | cut -d' ' -f1) $PWD"
  if [ -f ".venv/$1.stamp" ] && [ "$(cat ".venv/$1.stamp")" = "$stamp" ]; then return; fi
  echo "installing Python packages into .venv …" >&2
  if [ ! -x .venv/bin/pip ]; then
    python3 -m venv .venv >/dev/null 2>&1 || {
      apt_install python3-venv "Python's venv module"
      python3 -m venv --clear .venv
    }
  fi
  .venv/bin/pip install --quiet --require-hashes -r "$1" &&
    .venv/bin/pip install --quiet --no-deps -e . || fail "pip could not install the packages"
  echo "compiling the kernels for this processor …" >&2
  .venv/bin/python -m ops.warm_up || fail "the kernels cannot be used on this machine"
  echo "$stamp" >".venv/$1.stamp"
}
