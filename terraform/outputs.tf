output "addresses" {
  description = "Where to look; all of it on this machine only."
  value = {
    service      = "http://localhost:8080/"
    api_onprem   = "http://localhost:5000/health"
    api_cloud    = "http://localhost:5001/health"
    supervisor   = "http://localhost:9480/"
    prometheus   = "http://localhost:9090/"
    alertmanager = "http://localhost:9093/"
    mail         = "make mail"
  }
  depends_on = [terraform_data.up]
}
