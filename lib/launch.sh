# shellcheck shell=sh
# shellcheck disable=SC2154 # the first line of each command sets $depthfield
# Starts a command of bin/, whose first line reads this file, with the Python of the project's own .venv.
# $depthfield is the path of the command with all links resolved; $0 is the command as it was called.
depthfield=${depthfield%/*/*}
if [ ! -x "$depthfield/.venv/bin/python3" ]; then
  printf '%s: not installed; run "make install" in %s first\n' "${0##*/}" "$depthfield" >&2
  exit 1
fi
exec "$depthfield/.venv/bin/python3" "$0" "$@"
