# Which Python the tested set is installed with; the other scripts here source this.

# Minor versions of Python 3 that the pins are for; the first that is there is taken.
readonly PYTHONS='11 12 13'

# find_python: the name of the first of these that is there, or of the one to install.
find_python() {
    local minor
    for minor in $PYTHONS; do
        if "python3.$minor" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "python3.$minor"
            return
        fi
    done
    echo python3
}
