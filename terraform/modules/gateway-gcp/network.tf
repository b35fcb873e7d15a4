# The public port, and nothing else. The account, not a tag, says which machines are
# meant: whoever may set tags cannot open it elsewhere.
resource "google_compute_firewall" "public" {
  project                 = var.project
  name                    = "${local.name}-public"
  network                 = var.network
  direction               = "INGRESS"
  description             = "Links of peers"
  source_ranges           = var.peer_cidrs
  target_service_accounts = [google_service_account.gateway.email]

  dynamic "allow" {
    for_each = ["udp", "tcp"]
    content {
      protocol = allow.value
      ports    = [tostring(var.port)]
    }
  }
}

resource "google_compute_firewall" "workloads" {
  for_each                = var.workloads
  project                 = var.project
  name                    = "${local.name}-way-${each.key}"
  network                 = var.network
  direction               = "INGRESS"
  description             = "Ways in, for workloads"
  source_ranges           = each.value
  target_service_accounts = [google_service_account.gateway.email]

  allow {
    protocol = "tcp"
    ports    = [each.key]
  }
}

resource "google_compute_firewall" "control" {
  count                   = var.federation_service_account == null ? 0 : 1
  project                 = var.project
  name                    = "${local.name}-control"
  network                 = var.network
  direction               = "INGRESS"
  description             = "Control, for the own federation"
  source_service_accounts = [var.federation_service_account.email]
  target_service_accounts = [google_service_account.gateway.email]

  allow {
    protocol = "tcp"
    ports    = ["7482"]
  }
}

resource "google_compute_firewall" "mesh" {
  count                   = var.federation_service_account == null ? 0 : 1
  project                 = var.project
  name                    = "${local.name}-mesh"
  network                 = var.network
  direction               = "INGRESS"
  description             = "Mesh of the federation, for the gateways"
  source_service_accounts = [google_service_account.gateway.email]
  target_service_accounts = [var.federation_service_account.email]

  allow {
    protocol = "tcp"
    ports    = ["7483"]
  }
}

# The ranges that Google's health checks come from.
resource "google_compute_firewall" "health" {
  count                   = local.balanced ? 1 : 0
  project                 = var.project
  name                    = "${local.name}-health"
  network                 = var.network
  direction               = "INGRESS"
  description             = "Health checks of the load balancer"
  source_ranges           = ["35.191.0.0/16", "130.211.0.0/22", "209.85.152.0/22", "209.85.204.0/22"]
  target_service_accounts = [google_service_account.gateway.email]

  allow {
    protocol = "tcp"
    ports    = ["7481"]
  }
}

resource "google_compute_region_health_check" "gateway" {
  count               = local.balanced ? 1 : 0
  project             = var.project
  name                = local.name
  region              = var.cluster.region
  check_interval_sec  = 5
  timeout_sec         = 2
  healthy_threshold   = 2
  unhealthy_threshold = 2

  http_health_check {
    port         = 7481
    request_path = "/readyz"
  }
}

# One address, a rule and a backend service for each protocol.
resource "google_compute_region_backend_service" "gateway" {
  for_each              = toset(local.balanced ? ["UDP", "TCP"] : [])
  project               = var.project
  name                  = "${local.name}-${lower(each.key)}"
  region                = var.cluster.region
  protocol              = each.key
  load_balancing_scheme = "EXTERNAL"
  health_checks         = [google_compute_region_health_check.gateway[0].id]
  # Both protocols of a peer's gateway lead to the same gateway.
  session_affinity                = "CLIENT_IP"
  connection_draining_timeout_sec = var.drain_seconds

  backend {
    group          = google_compute_region_instance_group_manager.gateway.instance_group
    balancing_mode = "CONNECTION"
  }
}

resource "google_compute_forwarding_rule" "gateway" {
  for_each              = google_compute_region_backend_service.gateway
  project               = var.project
  name                  = "${local.name}-${lower(each.key)}"
  region                = var.cluster.region
  load_balancing_scheme = "EXTERNAL"
  ip_protocol           = each.key
  ip_address            = google_compute_address.gateway["all"].address
  ports                 = [tostring(var.port)]
  backend_service       = each.value.id
  network_tier          = "PREMIUM"
  labels                = local.labels
}
