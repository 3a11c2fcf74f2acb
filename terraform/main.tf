# The demo's stack by Terraform: `terraform init`, `terraform apply`, `terraform destroy`, in this directory.
#
# It needs no provider from a registry: terraform_data is built into Terraform, and the containers are those of
# compose/compose.yaml, so that the stack which the tests run is the one that Terraform starts.
terraform {
  # The first version with terraform_data.
  required_version = ">= 1.4"
}

locals {
  project = abspath("${path.module}/..")
  socket  = trimprefix(var.docker_host_path, "unix://")

  # What the containers are made from. A change in any of these makes `apply` bring the stack up to date.
  sources = sort(flatten([
    for pattern in [
      "compose/**", "prometheus/**", "alertmanager/**", "grafana/**", "templates/**", "src/**", "Cargo.toml", "Cargo.lock",
    ] : tolist(fileset(local.project, pattern))
  ]))
}

# What `destroy` removes: containers, networks and volumes. It is replaced only with another engine, since what it removes
# is the data too.
resource "terraform_data" "stack" {
  input = {
    project = local.project
    socket  = local.socket
  }
  triggers_replace = [local.socket]

  provisioner "local-exec" {
    when        = destroy
    command     = "make --no-print-directory demo-down"
    working_dir = self.output.project
    environment = { DOCKER_SOCKET = self.output.socket }
  }
}

# Builds what is missing, starts what does not run as it should, and waits until every part answers. Doing it again is
# harmless.
resource "terraform_data" "up" {
  depends_on = [terraform_data.stack]
  triggers_replace = [
    terraform_data.stack.id,
    sha256(join("", [for file in local.sources : filesha256("${local.project}/${file}")])),
  ]

  provisioner "local-exec" {
    command     = "make --no-print-directory up"
    working_dir = local.project
    environment = { DOCKER_SOCKET = local.socket }
  }
}
