#!/bin/sh
# Finds, and where it can installs, what the tests need beyond a C compiler, make and python3.
#
#   tools/setup.sh           install what is missing (root, or passwordless sudo, on Debian/Ubuntu)
#   tools/setup.sh --list    print the packages and change nothing
#
# Says what it does. Quick when everything is there; safe to run twice. Never fails because something
# could not be had: tools/test.py reports each configuration that it had to skip, with the reason.
#
# gcc-12-multilib is named with its version on purpose: Debian's plain gcc-multilib conflicts with
# the cross compilers.
set -u

PACKAGES="
gcc g++ make python3
clang libclang-rt-14-dev lld libc6-dev
gcc-12-multilib g++-12-multilib
qemu-user qemu-user-static
gcc-aarch64-linux-gnu libc6-dev-arm64-cross
gcc-s390x-linux-gnu libc6-dev-s390x-cross
wasi-libc libclang-rt-14-dev-wasm32 nodejs
gcc-mingw-w64-x86-64 wine wine64
gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
"

present() {
    case "$1" in
    # A newer compiler, or a Node that does not come from Debian, is as good as the package.
    gcc-12-multilib) dpkg_has "$1" || echo 'int main(void){return 0;}' | gcc -m32 -x c - -o /dev/null 2>/dev/null ;;
    g++-12-multilib) dpkg_has "$1" || echo 'int main(){return 0;}' | g++ -m32 -x c++ - -o /dev/null 2>/dev/null ;;
    nodejs) command -v node >/dev/null 2>&1 ;;
    gcc | g++ | make | python3) command -v "$1" >/dev/null 2>&1 ;;
    *) dpkg_has "$1" ;;
    esac
}

dpkg_has() {
    dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

if [ "${1:-}" = "--list" ]; then
    for package in $PACKAGES; do echo "$package"; done
    exit 0
fi

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: no apt-get here; install the likes of these by hand:" $PACKAGES
    exit 0
fi

missing=""
for package in $PACKAGES; do
    present "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "setup: everything is there"
    exit 0
fi

sudo=""
if [ "$(id -u)" != 0 ]; then
    if sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        echo "setup: not root and no passwordless sudo; missing:$missing"
        exit 0
    fi
fi

# Unpacking happens in a directory of our own: on busy machines /tmp is swept by others.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/ruvector-setup.XXXXXX") || exit 0
trap 'rm -rf "$scratch"' EXIT
install() {
    $sudo env DEBIAN_FRONTEND=noninteractive TMPDIR="$scratch" \
        apt-get -o DPkg::Lock::Timeout=600 -o APT::Keep-Downloaded-Packages=false \
        install -y --no-install-recommends "$@" >"$scratch/log" 2>&1
}

echo "setup: installing:$missing"
if ! install $missing; then
    echo "setup: first try failed; refreshing the package lists"
    $sudo apt-get -o DPkg::Lock::Timeout=600 update >"$scratch/log" 2>&1
    if ! install $missing; then
        echo "setup: together they do not go; one at a time"
        for package in $missing; do
            install "$package" || {
                echo "setup: could not install $package:"
                tail -n 3 "$scratch/log"
            }
        done
    fi
fi
for package in $missing; do
    present "$package" || echo "setup: still missing: $package"
done
exit 0
