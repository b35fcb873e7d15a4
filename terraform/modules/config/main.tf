locals {
  # What is null is left out of the file. The text is JSON, where a quote inside of a
  # string is escaped: the patterns cannot meet one. The first takes keys that follow
  # another, the second those that begin their mapping.
  packed   = jsonencode(var.document)
  rest     = replace(local.packed, "/,\"[A-Za-z0-9_.-]+\":null/", "")
  document = jsondecode(replace(local.rest, "/\\{(\"[A-Za-z0-9_.-]+\":null,?)+/", "{"))

  text = "# Written by Terraform: what is changed here is lost with the next apply.\n${yamlencode(local.document)}"
}
