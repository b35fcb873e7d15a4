variables {
  clusters = {
    aws = { id = "spiffe://aws.example.org/isthmus/cluster/aws", cloud = "aws", region = "us-east-1", gateways = ["gw.aws.example.org:7443"], asserts = ["spiffe://aws.example.org/apps/*"], bundle = { document = "{\"keys\":[]}" } }
    dc1 = { id = "spiffe://corp.example.org/isthmus/cluster/dc1", bundle = { file = "/etc/isthmus/corp.bundle.json" } }
  }
}

run "declares_each_to_the_other" {
  command = plan
  assert {
    condition     = output.peers.aws[0].name == "dc1" && length(output.peers.aws[0].gateways) == 0 && output.peers.aws[0].bundle.file == "/etc/isthmus/corp.bundle.json"
    error_message = "aws must know dc1, which dials it."
  }
  assert {
    condition     = output.peers.dc1[0].name == "aws" && output.peers.dc1[0].asserts[0] == "spiffe://aws.example.org/apps/*"
    error_message = "dc1 must know aws, and for whom it speaks."
  }
}

run "needs_somebody_who_can_be_dialed" {
  command = plan
  variables {
    clusters = {
      a = { id = "spiffe://x.example.org/a" }
      b = { id = "spiffe://x.example.org/b" }
    }
  }
  expect_failures = [var.clusters]
}

run "needs_bundles_between_trust_domains" {
  command = plan
  variables {
    clusters = {
      a = { id = "spiffe://x.example.org/a", gateways = ["a:7443"] }
      b = { id = "spiffe://y.example.org/b" }
    }
  }
  expect_failures = [var.clusters]
}

run "refuses_the_same_identity_twice" {
  command = plan
  variables {
    clusters = {
      a = { id = "spiffe://x.example.org/a", gateways = ["a:7443"] }
      b = { id = "spiffe://x.example.org/a" }
    }
  }
  expect_failures = [var.clusters]
}

run "refuses_three" {
  command = plan
  variables {
    clusters = {
      a = { id = "spiffe://x.example.org/a", gateways = ["a:7443"] }
      b = { id = "spiffe://x.example.org/b" }
      c = { id = "spiffe://x.example.org/c" }
    }
  }
  expect_failures = [var.clusters]
}

run "refuses_both_ways_at_once" {
  command = plan
  variables {
    operators = {
      a = { cluster = "a", shell = ["/bin/sh", "-c"], command = "isthmus", api = "/run/a.sock" }
      b = { cluster = "b", shell = ["/bin/sh", "-c"], command = "isthmus", api = "/run/b.sock" }
    }
  }
  expect_failures = [var.clusters]
}

run "refuses_quotes_in_commands" {
  command = plan
  variables {
    clusters = {}
    operators = {
      a = { cluster = "a", shell = ["/bin/sh", "-c"], command = "isthmus", api = "/run/a.sock; rm -rf $HOME" }
      b = { cluster = "b", shell = ["/bin/sh", "-c"], command = "isthmus", api = "/run/b.sock" }
    }
  }
  expect_failures = [var.operators]
}
