variable "docker_host_path" {
  description = "The engine's address: the column DOCKER ENDPOINT of `docker context ls`, in terraform.tfvars."
  type        = string
  default     = "unix:///var/run/docker.sock"

  validation {
    condition     = can(regex("^unix:///.+", var.docker_host_path))
    error_message = "Write it as unix:///path/to/docker.sock: the stack mounts the engine's socket into supervisor's container."
  }
}
