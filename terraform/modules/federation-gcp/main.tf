locals {
  name       = "isthmus-${var.cluster.name}-federation"
  cluster_id = try(var.identity.cluster_id, null) != null ? var.identity.cluster_id : "spiffe://${var.identity.trust_domain}/isthmus/cluster/${var.cluster.name}"
  labels     = merge(var.labels, { "isthmus-cluster" = var.cluster.name, "isthmus-role" = "federation" })
  store      = try(var.federation.store, null)
}

module "config" {
  source = "../config"
  document = {
    cluster  = { name = var.cluster.name, cloud = "gcp", region = var.cluster.region, zone = "@ZONE@" }
    identity = var.identity
    federation = merge(var.federation, {
      listen    = "@PRIVATE@:7483"
      advertise = "@PRIVATE@:7483"
      store     = local.store == null ? null : merge(local.store, { replica = "@REPLICA@" })
    })
  }
}

module "bootstrap" {
  for_each      = var.replicas
  source        = "../bootstrap"
  cloud         = "gcp"
  configuration = module.config.text
  values        = { REPLICA = each.key }
  install       = var.install
  files         = var.files
  setup         = var.setup
  data_device   = "/dev/disk/by-id/google-isthmus"
}

resource "google_service_account" "federation" {
  project      = var.project
  account_id   = substr("isthmus-fed-${var.cluster.name}", 0, 30)
  display_name = "Isthmus federation of ${var.cluster.name}"
}

# The federation itself asks nothing of the cloud; its sources may.
resource "google_project_iam_member" "federation" {
  for_each = var.roles
  project  = var.project
  role     = each.value
  member   = "serviceAccount:${google_service_account.federation.email}"
}

# Address and disk stay when the machine is replaced: gateways find it where it was,
# and it finds what it knew.
resource "google_compute_address" "replica" {
  for_each     = var.replicas
  project      = var.project
  name         = "${local.name}-${each.key}"
  region       = var.cluster.region
  subnetwork   = var.subnetwork
  address_type = "INTERNAL"
  labels       = local.labels
}

resource "google_compute_disk" "data" {
  for_each = var.replicas
  project  = var.project
  name     = "${local.name}-${each.key}-data"
  zone     = each.value
  type     = "pd-balanced"
  size     = var.data_gib
  labels   = local.labels
}

resource "google_compute_instance" "replica" {
  for_each                  = var.replicas
  project                   = var.project
  name                      = "${local.name}-${each.key}"
  zone                      = each.value
  machine_type              = var.machine_type
  labels                    = local.labels
  allow_stopping_for_update = true
  # A changed script makes another machine: one that runs would not read it.
  metadata_startup_script = module.bootstrap[each.key].script
  metadata = {
    "block-project-ssh-keys" = "true"
    "enable-oslogin"         = "TRUE"
    "serial-port-enable"     = "FALSE"
  }

  boot_disk {
    initialize_params {
      image = var.image
      size  = 16
      type  = "pd-balanced"
    }
  }
  attached_disk {
    source      = google_compute_disk.data[each.key].self_link
    device_name = "isthmus"
  }
  network_interface {
    subnetwork = var.subnetwork
    network_ip = google_compute_address.replica[each.key].address
  }
  service_account {
    email  = google_service_account.federation.email
    scopes = ["cloud-platform"] # what it may do is said by its roles
  }
  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }
}

# The mesh port is opened to the gateways by their module.
resource "google_compute_firewall" "operators" {
  count                   = length(var.operators) == 0 ? 0 : 1
  project                 = var.project
  name                    = "${local.name}-api"
  network                 = var.network
  direction               = "INGRESS"
  description             = "API over mTLS"
  source_ranges           = var.operators
  target_service_accounts = [google_service_account.federation.email]

  allow {
    protocol = "tcp"
    ports    = ["7484"]
  }
}
