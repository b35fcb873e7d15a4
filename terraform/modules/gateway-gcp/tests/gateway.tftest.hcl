mock_provider "google" {
  mock_resource "google_compute_address" {
    defaults = {
      address   = "198.51.100.7"
      self_link = "https://www.googleapis.com/compute/v1/projects/mesh-prod-1/regions/us-central1/addresses/a"
    }
  }
  mock_resource "google_service_account" {
    defaults = { email = "isthmus-gw@mesh-prod-1.iam.gserviceaccount.com" }
  }
}

variables {
  project                    = "mesh-prod-1"
  cluster                    = { name = "gcp-us-central1", region = "us-central1" }
  identity                   = { trust_domain = "gcp.example.org", workload_api = "unix:///run/spire/agent.sock" }
  network                    = "projects/mesh-prod-1/global/networks/mesh"
  subnetwork                 = "projects/mesh-prod-1/regions/us-central1/subnetworks/mesh"
  image                      = "projects/debian-cloud/global/images/family/debian-12"
  install                    = { url = "https://example.org/isthmus", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  federation_addresses       = ["10.30.0.5:7483"]
  federation_service_account = { email = "isthmus-fed@mesh-prod-1.iam.gserviceaccount.com" }
}

run "addresses" {
  variables {
    zones      = ["us-central1-a", "us-central1-b"]
    peer_cidrs = ["198.51.100.0/24"]
    workloads  = { "7080" = ["10.30.0.0/16"] }
    gateway    = { listen = { http = "0.0.0.0:7080", http_caller = "spiffe://gcp.example.org/apps/web", http_sources = ["10.30.0.0/16"] } }
  }
  assert {
    condition     = length(google_compute_address.gateway) == 2 && length(google_compute_region_per_instance_config.gateway) == 2
    error_message = "Two gateways, each with an address of its own."
  }
  assert {
    condition     = toset([for rule in google_compute_firewall.public.allow : "${rule.protocol} ${join(",", rule.ports)}"]) == toset(["udp 7443", "tcp 7443"])
    error_message = "The public port, UDP and TCP, and nothing else."
  }
  assert {
    condition     = google_compute_firewall.public.source_ranges == toset(["198.51.100.0/24"])
    error_message = "Only the peers' ranges."
  }
  assert {
    condition     = one(google_compute_firewall.control[0].allow).ports[0] == "7482" && one(google_compute_firewall.mesh[0].allow).ports[0] == "7483"
    error_message = "Federation and gateways reach each other."
  }
  assert {
    condition     = length(google_compute_region_backend_service.gateway) == 0 && length(google_compute_firewall.health) == 0
    error_message = "No load balancer."
  }
  assert {
    condition     = length(google_project_iam_member.gateway) == 0
    error_message = "The account has no roles of itself."
  }
  assert {
    condition     = google_compute_instance_template.gateway.shielded_instance_config[0].enable_secure_boot && google_compute_instance_template.gateway.metadata["block-project-ssh-keys"] == "true"
    error_message = "A shielded machine without the project's keys."
  }
  assert {
    condition     = output.gateway_ids == { gw1 = "spiffe://gcp.example.org/isthmus/cluster/gcp-us-central1/gateway/gw1", gw2 = "spiffe://gcp.example.org/isthmus/cluster/gcp-us-central1/gateway/gw2" }
    error_message = "The IDs to register."
  }
}

run "load_balancer" {
  variables {
    exposure = "load_balancer"
    gateways = 3
  }
  assert {
    condition     = length(google_compute_address.gateway) == 1 && toset([for r in google_compute_forwarding_rule.gateway : "${r.ip_protocol} ${join(",", r.ports)}"]) == toset(["UDP 7443", "TCP 7443"])
    error_message = "One address with UDP and TCP on the port."
  }
  assert {
    condition     = google_compute_region_health_check.gateway[0].http_health_check[0].request_path == "/readyz" && one(google_compute_firewall.health[0].allow).ports[0] == "7481"
    error_message = "A gateway that drains must leave the balancer."
  }
  assert {
    condition     = length(google_compute_instance_template.gateway.network_interface[0].access_config) == 0
    error_message = "Machines behind the balancer have no addresses of their own."
  }
  assert {
    condition     = length(output.gateways) == 1
    error_message = "Peers dial one address."
  }
}

run "names_what_is_wrong" {
  command = plan
  variables {
    project    = "Mesh"
    cluster    = { name = "GCP", region = "us-central1" }
    exposure   = "public"
    gateways   = 0
    port       = 443
    peer_cidrs = ["everybody"]
    workloads  = { "7080" = ["0.0.0.0/0"] }
    roles      = ["roles/editor"]
    gateway    = { name = "gw9" }

    drain_seconds        = 600
    federation_addresses = []
  }
  expect_failures = [
    var.project, var.cluster, var.exposure, var.gateways, var.port, var.peer_cidrs, var.workloads,
    var.roles, var.gateway, var.drain_seconds, var.federation_addresses,
  ]
}

# A rule about two inputs is judged once the other one is good.
run "names_zones_of_elsewhere" {
  command = plan
  variables {
    zones = ["europe-west1-b"]
  }
  expect_failures = [var.zones]
}
