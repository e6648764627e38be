# Refuse to roll out a broken chain: Terraform's external data source runs the
# check, and a precondition stops the plan with the true cause in words.
variable "chain_file" { type = string }
variable "host" { type = string }

data "external" "chain" {
  program = ["${path.module}/check.sh"]
  query   = { file = var.chain_file, name = var.host }
}

resource "terraform_data" "certificate" {
  input = filesha256(var.chain_file)
  lifecycle {
    precondition {
      condition     = data.external.chain.result.verdict != "error"
      error_message = "${var.chain_file}: ${data.external.chain.result.codes}. ${data.external.chain.result.remedy}"
    }
  }
}
