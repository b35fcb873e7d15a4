variables {
  cluster    = { name = "east", cloud = "onprem", region = "dc1" }
  identity   = { trust_domain = "east.example.org" }
  ca         = {}
  federation = { exports = [{ name = "all", services = ["*"], to = ["*"] }] }
  gateway    = { name = "gw1", advertise = ["gw1.east.example.org:7443"] }
  program    = { path = "./tests/host.tftest.hcl" }
}

run "renders_a_file_for_each_role" {
  command = plan
  assert {
    condition     = keys(output.configuration) == tolist(["ca", "federation", "gateway"])
    error_message = "Three roles, three files."
  }
  assert {
    condition     = yamldecode(output.configuration.ca).entries[*].id == ["spiffe://east.example.org/isthmus/cluster/east", "spiffe://east.example.org/isthmus/cluster/east/gateway/gw1"]
    error_message = "The CA knows the two processes."
  }
  assert {
    condition     = yamldecode(output.configuration.gateway).identity.workload_api == "unix:///opt/isthmus/run/ca.sock"
    error_message = "The gateway's identity comes from the CA here."
  }
  assert {
    condition     = !can(yamldecode(output.configuration.gateway).gateway.listen.link)
    error_message = "Without bind the product's defaults hold."
  }
  assert {
    condition     = strcontains(output.units.gateway, "ExecStart=/opt/isthmus/bin/isthmus run -c /opt/isthmus/etc/gateway.yaml") && strcontains(output.units.ca, "ExecStart=/opt/isthmus/bin/isthmus ca serve -c ")
    error_message = "A unit for each role."
  }
}

run "binds_every_listener" {
  command = plan
  variables {
    bind = "127.0.0.11"
  }
  assert {
    condition     = yamldecode(output.configuration.gateway).gateway.listen == { link = "127.0.0.11:7443", admin = "127.0.0.11:7481", control = "127.0.0.11:7482" }
    error_message = "bind must reach the gateway's listeners."
  }
  assert {
    condition     = yamldecode(output.configuration.gateway).gateway.federation == "127.0.0.11:7483" && yamldecode(output.configuration.federation).federation.listen == "127.0.0.11:7483"
    error_message = "The gateway must find the federation."
  }
}

run "needs_an_identity" {
  command = plan
  variables {
    ca = null
  }
  expect_failures = [var.identity]
}

run "needs_something_to_do" {
  command = plan
  variables {
    identity   = { trust_domain = "east.example.org", workload_api = "unix:///run/spire/agent.sock" }
    ca         = null
    federation = null
    gateway    = null
  }
  expect_failures = [var.gateway]
}

run "refuses_what_a_shell_would_read_otherwise" {
  command = plan
  variables {
    directory = "/opt/isth mus"
    user      = "root; reboot"
    ssh       = { destination = "-oProxyCommand=x" }
    files     = { "../../etc/passwd" = "" }
  }
  expect_failures = [var.directory, var.user, var.ssh, var.files]
}

run "refuses_other_supervisors" {
  command = plan
  variables {
    supervisor = "upstart"
    program    = { url = "http://example.org/isthmus", sha256 = "abc" }
    bind       = "localhost"
  }
  expect_failures = [var.supervisor, var.program, var.bind]
}
