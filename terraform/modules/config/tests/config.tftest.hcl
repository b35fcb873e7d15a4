run "renders_what_is_set" {
  command = plan
  variables {
    document = {
      cluster = { name = "east", cloud = null, region = null }
      identity = {
        trust_domain = "east.example.org"
        workload_api = "unix:///run/spire/agent.sock"
      }
      federation = {
        listen  = null
        sources = [{ file = { path = "/etc/isthmus/catalog.yaml", interval = null } }]
        peers = [{
          name   = "west", id = "spiffe://west.example.org/isthmus/cluster/west", gateways = []
          bundle = { file = null, document = "{\"keys\":[],\"x\":null,\"y\":{\"z\":null}}" }
        }]
        imports          = [{ name = "i", from = "west", services = ["*"], namespaces = { shop = "west-shop" } }]
        traffic_policies = [{ name = "t", services = ["*"], weights = { east = 3 } }]
        store            = { consul = { address = "127.0.0.1:8500" } }
      }
      gateway = { name = "gw1", drain_timeout = "1m30s", federation = ["10.0.0.1:7483", "10.0.0.2:7483"] }
    }
  }
  assert {
    condition     = yamldecode(output.text).cluster == { name = "east" }
    error_message = "Keys that are null stay out of the file."
  }
  assert {
    condition     = yamldecode(output.text).federation.peers[0].bundle == { document = "{\"keys\":[],\"x\":null,\"y\":{\"z\":null}}" }
    error_message = "Text that holds JSON is left alone."
  }
  assert {
    condition     = !strcontains(output.text, "listen")
    error_message = "The first key of a mapping stays out, too."
  }
}

run "names_every_problem" {
  command = plan
  variables {
    document = {
      cluster    = { nam = "east" }
      exprots    = [{ name = "x" }]
      federation = { peers = [{ name = "west", asserts = "spiffe://west/*" }, { gateway = ["a:1"] }] }
      gateway    = { name = 7, drain_timeout = "soon", limits = { streams = "many" } }
      identity   = { no_cache = "yes" }
    }
  }
  expect_failures = [output.text]
  assert {
    condition = toset([for p in local.problems : split("; known there", p)[0]]) == toset([
      "cluster.nam: is no key of the file",
      "exprots: is no key of the file",
      "federation.peers[1].gateway: is no key of the file",
      "federation.peers[0].asserts = \"spiffe://west/*\": must be a list",
      "gateway.name = 7: must be text",
      "gateway.drain_timeout = \"soon\": must be a number with a unit, such as \"500ms\", \"30s\" or \"1h\"",
      "gateway.limits.streams = \"many\": must be a number",
      "identity.no_cache = \"yes\": must be true or false",
    ])
    error_message = "Not the expected problems: ${join("; ", local.problems)}"
  }
  assert {
    condition     = anytrue([for p in local.problems : startswith(p, "exprots: is no key of the file; known there: cluster, data_dir, federation, gateway")])
    error_message = "Nobody says which keys there are: ${join("; ", local.problems)}"
  }
}

run "knows_the_file_of_a_ca" {
  command = plan
  variables {
    kind = "ca"
    document = {
      trust_domain = "east.example.org"
      entries      = [{ id = "spiffe://east.example.org/x", uid = 990 }]
      gateway      = {}
    }
  }
  expect_failures = [output.text]
  assert {
    condition     = length(local.problems) == 1 && startswith(local.problems[0], "gateway: is no key")
    error_message = "Not the expected problems: ${join("; ", local.problems)}"
  }
}

run "refuses_another_kind" {
  command = plan
  variables {
    kind     = "agent"
    document = {}
  }
  expect_failures = [var.kind]
}
