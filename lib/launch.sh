# shellcheck shell=sh
# shellcheck disable=SC2154 # the first line of each command sets $depthfield
# Starts a command of bin/, whose first line reads this file, with the Python that has depthfield: the .venv of a checkout,
# or the Python that this file is installed for.
# $depthfield is the path of the command with all links resolved; $0 is the command as it was called.
depthfield=${depthfield%/*/*}
case $depthfield in
*/lib/python3.*-packages/depthfield/share)
  python=${depthfield%/*-packages/depthfield/share} # PREFIX/lib/python3.11
  version=${python##*/}
  python=${python%/lib/*}/bin/$version
  [ -x "$python" ] || python=$(command -v "$version") || python=none
  hint="cannot find $version, which $depthfield is installed for; add it to PATH"
  ;;
*)
  python=$depthfield/.venv/bin/python3
  hint="not installed; run \"make install\" in $depthfield first"
  ;;
esac
if [ ! -x "$python" ]; then
  printf '%s: %s\n' "${0##*/}" "$hint" >&2
  exit 1
fi
exec "$python" "$0" "$@"
