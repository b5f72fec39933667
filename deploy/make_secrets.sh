#!/bin/sh
# Passwords, and an authority with one certificate for a Dask cluster, into a folder that they are not in yet; run once.
#   sh deploy/make_secrets.sh FOLDER [name of the scheduler's host ...]
set -eu
folder=$1
shift
umask 077
mkdir -p "$folder"
cd "$folder"

password() {
    [ -s "$1" ] || printf '%s%s' "$2" "$(openssl rand -hex 24)" > "$1"
}
password postgres_password ""
password prefect_auth "ecgbatch:"
password s3_secret ""
password reader_password ""
# Who may read in a browser: a line each; more of them: printf '%s:%s\n' NAME "$(openssl passwd -apr1)" >> readers
[ -s readers ] || printf 'reader:%s\n' "$(openssl passwd -apr1 -stdin < reader_password)" > readers
# Those that PostgreSQL and the gate, other users of the same group in compose.yaml, read.
chmod 710 .
chmod 640 postgres_password readers

if [ ! -s cert.pem ]; then
    openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj /CN=ecgbatch-authority -keyout ca-key.pem -out ca.pem 2>/dev/null
    openssl req -newkey rsa:3072 -nodes -subj /CN=ecgbatch -keyout key.pem -out request.pem 2>/dev/null
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -days 825 -out cert.pem 2>/dev/null
    # Whoever holds the authority's key can make certificates: it is not kept. Renew: remove *.pem, run this again.
    rm -f request.pem ca-key.pem ca.srl
fi
