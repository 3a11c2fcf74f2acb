#!/usr/bin/env bash
# Checks terraform/ and, once, applies and destroys it. It needs ports and names of the stack, so nothing of it may run.
# Where Terraform is not installed that is said, not passed over.
set -euo pipefail
cd "$(dirname "$0")"
export DOCKER_HOST="unix://${DOCKER_SOCKET:-/var/run/docker.sock}"

if ! command -v terraform >/dev/null; then
    echo "terraform: NOT CHECKED, it is not installed here"
    exit 0
fi
# No questions, no colours, and a state of its own beside the user's.
export TF_IN_AUTOMATION=1 TF_INPUT=0 TF_CLI_ARGS=-no-color TF_DATA_DIR=../target/terraform
export TF_VAR_docker_host_path=$DOCKER_HOST
readonly STATE=../target/terraform/check.tfstate

terraform fmt -check -diff
terraform init >/dev/null
terraform validate
[ "${1:-}" = --files ] && exit 0

if [ -n "$(docker ps --all --quiet --filter name='^(api-onprem|api-cloud|haproxy-server|supervisor|prometheus|alertmanager|mail)$')" ]; then
    echo "terraform: the stack is there already; 'make demo-down' first" >&2
    exit 1
fi
trap 'terraform destroy -auto-approve -state="$STATE"' EXIT
terraform apply -auto-approve -state="$STATE"
# Nothing has changed, so nothing is to be done.
terraform plan -detailed-exitcode -state="$STATE"
for address in 8080/ 5000/health 5001/health 9480/health 9090/-/ready 9093/-/ready; do
    curl --noproxy '*' --silent --show-error --fail --max-time 10 --output /dev/null "http://127.0.0.1:$address"
done
trap - EXIT
terraform destroy -auto-approve -state="$STATE"
if [ -n "$(docker ps --all --quiet --filter label=com.docker.compose.project=supervisor)" ]; then
    echo "terraform: containers are left after destroy" >&2
    exit 1
fi
