locals {
  name       = "isthmus-${var.cluster.name}-gateway"
  cluster_id = try(var.identity.cluster_id, null) != null ? var.identity.cluster_id : "spiffe://${var.identity.trust_domain}/isthmus/cluster/${var.cluster.name}"
  labels     = merge(var.labels, { "isthmus-cluster" = var.cluster.name, "isthmus-role" = "gateway" })

  balanced = var.exposure == "load_balancer"
  names    = [for n in range(var.gateways) : "gw${n + 1}"]
  machines = { for name in local.names : name => "${local.name}-${name}" }
  # The admin listener has no secrets, but stays on loopback where no load balancer
  # asks for /readyz.
  admin = local.balanced ? "@PRIVATE@:7481" : "127.0.0.1:7481"
}

# A peer keeps each link to one gateway, by its identity: with an address of its own
# each can be reached. Behind the load balancer a peer's gateway reaches the one that
# the balancer gives it, and the next one when that is not ready.
resource "google_compute_address" "gateway" {
  for_each     = toset(local.balanced ? ["all"] : local.names)
  project      = var.project
  name         = "${local.name}-${each.key}"
  region       = var.cluster.region
  address_type = "EXTERNAL"
  network_tier = "PREMIUM"
  labels       = local.labels
}

locals {
  addresses = { for name in local.names : name => google_compute_address.gateway[local.balanced ? "all" : name].address }
}

module "config" {
  source = "../config"
  document = {
    cluster  = { name = var.cluster.name, cloud = "gcp", region = var.cluster.region, zone = "@ZONE@" }
    identity = var.identity
    gateway = merge({ drain_timeout = "${var.drain_seconds}s" }, var.gateway, {
      name       = "@NAME@"
      advertise  = ["@ADDRESS@:${var.port}"]
      federation = [for n in range(length(var.federation_addresses)) : "@FEDERATION_${n}@"]
      listen = merge(try(var.gateway.listen, {}), {
        link    = "0.0.0.0:${var.port}"
        control = "@PRIVATE@:7482"
        admin   = local.admin
      })
    })
  }
}

module "bootstrap" {
  source        = "../bootstrap"
  cloud         = "gcp"
  configuration = module.config.text
  values        = { for n, address in var.federation_addresses : "FEDERATION_${n}" => address }
  claim         = "instance_name"
  slots         = { for name in local.names : name => { key = local.machines[name], address = local.addresses[name] } }
  install       = var.install
  files         = var.files
  setup         = var.setup
}

resource "google_service_account" "gateway" {
  project      = var.project
  account_id   = substr("isthmus-gw-${var.cluster.name}", 0, 30)
  display_name = "Isthmus gateways of ${var.cluster.name}"
}

resource "google_project_iam_member" "gateway" {
  for_each = var.roles
  project  = var.project
  role     = each.value
  member   = "serviceAccount:${google_service_account.gateway.email}"
}

resource "google_compute_instance_template" "gateway" {
  project      = var.project
  name_prefix  = "${local.name}-"
  region       = var.cluster.region
  machine_type = var.machine_type
  labels       = local.labels
  metadata = {
    "startup-script"         = module.bootstrap.script
    "block-project-ssh-keys" = "true"
    "enable-oslogin"         = "TRUE"
    "serial-port-enable"     = "FALSE"
  }

  disk {
    source_image = var.image
    boot         = true
    auto_delete  = true
    disk_type    = "pd-balanced"
    disk_size_gb = 16
  }
  network_interface {
    subnetwork = var.subnetwork
    dynamic "access_config" {
      for_each = local.balanced ? [] : [true]
      content {
        network_tier = "PREMIUM"
      }
    }
  }
  service_account {
    email  = google_service_account.gateway.email
    scopes = ["cloud-platform"] # what it may do is said by its roles
  }
  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  lifecycle {
    create_before_destroy = true
  }
}

# Its machines have names of their own, one for each gateway, and are made by the
# configurations below: the group has no size.
resource "google_compute_region_instance_group_manager" "gateway" {
  project                          = var.project
  name                             = local.name
  region                           = var.cluster.region
  base_instance_name               = local.name
  distribution_policy_zones        = length(var.zones) == 0 ? null : var.zones
  distribution_policy_target_shape = "EVEN"

  version {
    instance_template = google_compute_instance_template.gateway.self_link_unique
  }
  named_port {
    name = "isthmus"
    port = var.port
  }
  # A regional group replaces at least one machine for each of its zones at a time, which
  # may be all gateways: so a new template is rolled out by hand, one after the other
  # (output roll).
  update_policy {
    type                         = "OPPORTUNISTIC"
    minimal_action               = "REPLACE"
    replacement_method           = "RECREATE" # name and address stay, so it goes before it comes
    instance_redistribution_type = "NONE"
    max_surge_fixed              = 0
    max_unavailable_fixed        = length(var.zones) == 0 ? 3 : length(var.zones)
  }
  dynamic "auto_healing_policies" {
    for_each = local.balanced ? [true] : []
    content {
      health_check      = google_compute_region_health_check.gateway[0].id
      initial_delay_sec = 300
    }
  }
}

resource "google_compute_region_per_instance_config" "gateway" {
  for_each                         = toset(local.names)
  project                          = var.project
  region                           = var.cluster.region
  region_instance_group_manager    = google_compute_region_instance_group_manager.gateway.name
  name                             = local.machines[each.key]
  minimal_action                   = "NONE"
  remove_instance_on_destroy       = true
  remove_instance_state_on_destroy = true

  preserved_state {
    metadata = { "isthmus-gateway" = each.key }
    dynamic "external_ip" {
      for_each = local.balanced ? [] : [true]
      content {
        interface_name = "nic0"
        auto_delete    = "NEVER" # the address is Terraform's
        ip_address {
          address = google_compute_address.gateway[each.key].self_link
        }
      }
    }
  }
}
