# Sourced by the scripts: makes .venv from uv.lock, quietly and fast when nothing changed.
# Needs: a POSIX shell and Python >= 3.11 with venv (on Debian with root, python3-venv is installed when missing).

say() { printf '%s\n' "==> $*" >&2; }
die() { printf '%s\n' "error: $*" >&2; exit 1; }

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cache=${STRIPEDJOB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stripedjob}

# find_python [FIRST]: on PATH, or FIRST where that will do
find_python() {
  for candidate in ${1:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 &&
       "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  die "no Python >= 3.11 was found on PATH; install one (Debian: apt-get install python3 python3-venv)"
}

# make_venv PYTHON DIR: a venv, with Debian's python3-venv installed first where ensurepip is missing.
make_venv() {
  if ! "$1" -c 'import ensurepip' 2>/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 ||
      die "Python's venv module is not complete; install python3-venv and run this again"
    say "installing python3-venv through apt"
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >&2
  fi
  "$1" -m venv "$2"
}

# ensure_uv: sets $uv to a uv of the pinned version, from its wheel, checked by hash.
ensure_uv() {
  pin=$root/scripts/lib/uv.txt
  version=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' "$pin")
  uv=$cache/uv-$version/bin/uv
  [ -x "$uv" ] && return 0
  say "installing uv $version into $cache"
  python=$(find_python)
  mkdir -p "$cache"
  make_venv "$python" "$cache/uv-$version"
  "$cache/uv-$version/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$pin" >&2 ||
    { rm -rf "$cache/uv-$version"; die "uv could not be installed: is the Python package index reachable?"; }
}

# ensure_env: .venv holds exactly what uv.lock says, and is first on PATH.
ensure_env() {
  ensure_uv
  stamp=$root/.venv/.locked
  if [ ! -f "$stamp" ] || [ "$root/uv.lock" -nt "$stamp" ] || [ "$root/pyproject.toml" -nt "$stamp" ]; then
    say "installing the locked dependencies into .venv"
    # A distribution builds its Python with a profile and LTO; what pyenv builds by default is a fifth slower at everything.
    (cd "$root" && "$uv" sync --quiet --frozen --all-extras --python "$(find_python /usr/bin/python3)") || die "uv sync failed"
    touch "$stamp"
  fi
  PATH=$root/.venv/bin:$PATH
  STRIPEDJOB_UV=$uv
  export PATH STRIPEDJOB_UV
  unset VIRTUAL_ENV PYTHONDONTWRITEBYTECODE # the tests start hundreds of processes, most of which do little but import
}
