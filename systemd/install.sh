#!/bin/sh
# Installs chipmedic on this host as systemd services, or brings an installation up to date.
# Whatever is there already (configuration, state) is kept. docs/operations.md tells the rest.
set -eu

usage() {
    cat <<'EOF'
usage: install.sh [agent] [watchdog] [options]

  agent                  the agent of a compute node (the default)
  watchdog               the central watchdog
  --from SOURCE          a wheel, an sdist or a checkout (default: what this script lies in)
  --find-links FOLDER    take every package from this folder of wheels and nothing from the network
  --python PROGRAM       Python 3.11 or newer (default: the first such one on PATH)
  --no-start             install, but neither enable nor start
EOF
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

home=/opt/chipmedic
etc=/etc/chipmedic
units=/etc/systemd/system
here=$(cd "$(dirname "$0")" && pwd)

read_arguments() {
    daemons="" source="" find_links="" python="" start=yes
    while [ $# -gt 0 ]; do
        case $1 in
        agent | watchdog) daemons="$daemons $1" ;;
        --from | --find-links | --python)
            [ $# -gt 1 ] || fail "$1: what? (see --help)"
            case $1 in
            --from) source=$2 ;;
            --find-links) find_links=$2 ;;
            --python) python=$2 ;;
            esac
            shift
            ;;
        --no-start) start=no ;;
        -h | --help) usage && exit 0 ;;
        *) fail "$1: not a daemon and not an option (see --help)" ;;
        esac
        shift
    done
    # What is here already is brought up to date as well: the daemons share one package.
    for daemon in agent watchdog; do
        case $daemons in *$daemon*) continue ;; esac
        [ ! -e "$units/chipmedic-$daemon.service" ] || daemons="$daemons $daemon"
    done
    daemons=${daemons:-agent}
    source=${source:-$(dirname "$here")}
    [ -z "$find_links" ] || find_links=$(cd "$find_links" 2>/dev/null && pwd) ||
        fail "--find-links: no such folder"
}

check_host() {
    [ "$(id -u)" = 0 ] || fail "must run as root: sudo $0"
    [ -d /run/systemd/system ] || fail "systemd does not run this host (no /run/systemd/system)"
    [ -f "$source" ] || [ -f "$source/pyproject.toml" ] ||
        fail "$source: neither a wheel, an sdist nor a checkout; name one with --from"
    if [ -n "$python" ]; then
        is_new_enough "$python" || fail "$python: not Python 3.11 or newer"
    else
        for python in python3 python3.13 python3.12 python3.11 ""; do
            is_new_enough "$python" && break
        done
        [ -n "$python" ] ||
            fail "no Python 3.11 or newer on PATH; install one (Debian 12: apt-get install python3-venv," \
                "Ubuntu 22.04: apt-get install python3.11-venv) or name it with --python"
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module; install it (Debian, Ubuntu: apt-get install" \
            "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'))"
}

is_new_enough() {
    [ -n "$1" ] && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Run quietly; on failure show the end of what was said, and what failed in one line.
quietly() {
    what=$1
    shift
    if ! "$@" >"$work/log" 2>&1; then
        tail -n 15 "$work/log" >&2
        fail "$what failed; nothing was started or stopped"
    fi
}

install_package() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    extras=cli
    case $daemons in *watchdog*) extras=cli,watchdog ;; esac
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
    if [ -n "$find_links" ]; then
        export PIP_NO_INDEX=1 PIP_FIND_LINKS="$find_links"
    fi
    echo "installing chipmedic from $source into $home"
    umask 022
    [ -x $home/bin/python ] || quietly "making the virtual environment $home" "$python" -m venv $home
    pip="$home/bin/python -m pip"
    # shellcheck disable=SC2086 - a program and its arguments
    {
        quietly "building $source" $pip wheel --no-deps --wheel-dir "$work" "$source"
        set -- "$work"/*.whl
        quietly "installing what chipmedic needs" $pip install --upgrade "$1[$extras]"
        # pip leaves a package of the same version as it is; a checkout may have moved on under one.
        quietly "installing chipmedic" $pip install --no-deps --force-reinstall "$1"
    }
    install -D -m 0755 "$here/uninstall.sh" $home/uninstall
    [ ! -f "$here/../docs/operations.md" ] ||
        install -D -m 0644 "$here/../docs/operations.md" $home/share/operations.md
}

install_files() {
    install -d -m 0755 $etc $units /etc/sysusers.d /etc/tmpfiles.d
    install -m 0644 "$here/sysusers.d/chipmedic.conf" /etc/sysusers.d/chipmedic.conf
    install -m 0644 "$here/tmpfiles.d/chipmedic.conf" /etc/tmpfiles.d/chipmedic.conf
    systemd-sysusers /etc/sysusers.d/chipmedic.conf
    systemd-tmpfiles --create /etc/tmpfiles.d/chipmedic.conf
    # Vendors' drivers give their devices to these groups; a group that comes later: install again.
    for group in video render HwHiAiUser; do
        ! getent group $group >/dev/null || usermod --append --groups $group chipmedic-agent
    done
    install -m 0644 "$here/chipmedic.slice" $units/
    for daemon in $daemons; do
        [ -e $etc/$daemon.toml ] || install -m 0644 "$here/$daemon.toml" $etc/$daemon.toml
        install -m 0644 "$here/chipmedic-$daemon.service" $units/
    done
    case $daemons in *watchdog*) install -d -m 0750 -g chipmedic-watchdog $etc/secrets ;; esac
    systemctl daemon-reload
}

start_daemons() {
    for daemon in $daemons; do
        $home/bin/chipmedic-"$daemon" --check-config >/dev/null ||
            fail "$etc/$daemon.toml is wrong (see above); chipmedic-$daemon was not (re)started"
    done
    for daemon in $daemons; do
        systemctl --quiet enable "chipmedic-$daemon.service"
        systemctl restart "chipmedic-$daemon.service" ||
            fail "chipmedic-$daemon did not start; see: journalctl -u chipmedic-$daemon"
        echo "chipmedic-$daemon runs; its configuration is $etc/$daemon.toml"
    done
}

read_arguments "$@"
check_host
install_package
install_files
[ $start = no ] || start_daemons
echo "to remove it: $home/uninstall"
