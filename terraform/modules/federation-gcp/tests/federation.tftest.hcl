mock_provider "google" {
  mock_resource "google_compute_address" {
    defaults = { address = "10.30.0.5" }
  }
  mock_resource "google_service_account" {
    defaults = { email = "isthmus-fed@mesh-prod-1.iam.gserviceaccount.com" }
  }
}

variables {
  project    = "mesh-prod-1"
  cluster    = { name = "gcp-us-central1", region = "us-central1" }
  identity   = { trust_domain = "gcp.example.org", workload_api = "unix:///run/spire/agent.sock" }
  network    = "projects/mesh-prod-1/global/networks/mesh"
  subnetwork = "projects/mesh-prod-1/regions/us-central1/subnetworks/mesh"
  image      = "projects/debian-cloud/global/images/family/debian-12"
  install    = { url = "https://example.org/isthmus", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  replicas   = { fed1 = "us-central1-a" }
}

run "one" {
  variables {
    files      = { "catalog.yaml" = "services: []\n" }
    federation = { sources = [{ file = { path = "/etc/isthmus/catalog.yaml" } }] }
  }
  assert {
    condition     = output.mesh_addresses == ["10.30.0.5:7483"] && output.id == "spiffe://gcp.example.org/isthmus/cluster/gcp-us-central1"
    error_message = "What gateways and peers need."
  }
  assert {
    condition     = length(google_compute_instance.replica["fed1"].network_interface[0].access_config) == 0 && length(google_compute_firewall.operators) == 0
    error_message = "Nothing is public."
  }
  assert {
    condition     = google_compute_instance.replica["fed1"].attached_disk[0].device_name == "isthmus"
    error_message = "The store is on a disk of its own."
  }
}

run "two_share_a_store" {
  variables {
    replicas   = { fed1 = "us-central1-a", fed2 = "us-central1-b" }
    federation = { store = { consul = { address = ["10.30.0.10:8500"] } } }
    operators  = ["10.30.0.0/16"]
  }
  assert {
    condition     = length(google_compute_instance.replica) == 2 && length(google_compute_disk.data) == 2 && one(google_compute_firewall.operators[0].allow).ports[0] == "7484"
    error_message = "Two machines, two disks, the API for operators."
  }
}

run "names_what_is_wrong" {
  command = plan
  variables {
    federation = { listen = "0.0.0.0:7483" }
    operators  = ["0.0.0.0/0"]
    data_gib   = 1
    roles      = ["viewer"]
  }
  expect_failures = [var.federation, var.operators, var.data_gib, var.roles]
}

# A rule about two inputs is judged once the other one is good.
run "needs_one_store_for_two" {
  command = plan
  variables {
    replicas = { fed1 = "us-central1-a", fed2 = "europe-west1-b" }
  }
  expect_failures = [var.replicas]
}
