variables {
  cloud         = "aws"
  configuration = "gateway: {name: '@NAME@'}\n"
  install       = { url = "https://example.org/isthmus.deb", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
}

run "asks_by_imdsv2_only" {
  command = plan
  assert {
    condition     = strcontains(output.script, "-X PUT \"$metadata/latest/api/token\"") && !strcontains(output.script, "Metadata-Flavor")
    error_message = "AWS is asked with a token."
  }
  assert {
    condition     = startswith(output.cloud_init, "#cloud-config\n")
    error_message = "cloud-init must know it."
  }
  assert {
    condition     = !strcontains(output.script, "isthmus-drain")
    error_message = "Without a group nobody waits for a drain."
  }
}

run "drains_for_a_group" {
  command = plan
  variables {
    drain = { group = "isthmus-x-gateway", hook = "drain" }
  }
  assert {
    condition     = strcontains(output.script, "isthmus-drain.service")
    error_message = "The instance must watch for its end."
  }
}

run "bounds_user_data" {
  command = plan
  variables {
    # Digests do not compress.
    files = { "large.txt" = join("", [for n in range(400) : sha256("${n}")]) }
  }
  expect_failures = [output.user_data]
}

run "names_what_is_wrong" {
  command = plan
  variables {
    cloud   = "azure"
    claim   = "luck"
    values  = { lower = "a b" }
    install = { url = "http://example.org/isthmus", sha256 = "abc" }
    files   = { "../passwd" = "" }
  }
  expect_failures = [var.cloud, var.claim, var.values, var.install, var.files]
}
