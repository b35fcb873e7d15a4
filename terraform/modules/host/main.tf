locals {
  dir        = var.directory
  id         = local.cluster_base
  socket     = "${local.dir}/run/ca.sock"
  api        = "${local.dir}/run/api.sock"
  bundle     = "${local.dir}/data/ca.bundle.json"
  gateway    = try(var.gateway.name, null)
  systemd    = var.supervisor == "systemd"
  unit       = "isthmus-${var.cluster.name}"
  cluster_id = try(var.identity.cluster_id, null)

  cluster_base = local.cluster_id != null ? local.cluster_id : "spiffe://${var.identity.trust_domain}/isthmus/cluster/${var.cluster.name}"

  identity = merge(
    { workload_api = var.ca != null && try(var.identity.files, null) == null ? "unix://${local.socket}" : null },
    { for k, v in var.identity : k => v if v != null },
  )
  process = { cluster = var.cluster, identity = local.identity }

  # What bind means for each listener; a section of the caller's own goes first.
  at     = { for name, port in { link = 7443, api = 7480, admin = 7481, control = 7482, mesh = 7483 } : name => var.bind == null ? null : "${var.bind}:${port}" }
  listen = { for k in ["link", "admin", "control"] : k => local.at[k] }
}

module "ca" {
  count  = var.ca == null ? 0 : 1
  source = "../config"
  kind   = "ca"
  document = merge(var.ca, {
    trust_domain = var.identity.trust_domain
    dir          = "${local.dir}/data/ca"
    socket       = local.socket
    bundle_file  = local.bundle
    entries = concat(
      var.federation == null ? [] : [{ id = local.id }],
      var.gateway == null ? [] : [{ id = "${local.id}/gateway/${local.gateway}" }],
      try(var.ca.entries, []),
    )
  })
}

module "federation" {
  count  = var.federation == null ? 0 : 1
  source = "../config"
  document = merge(local.process, {
    data_dir = "${local.dir}/data"
    federation = merge({ listen = local.at.mesh }, var.federation, {
      api = merge({ socket = local.api, address = local.at.api }, try(var.federation.api, {}))
    })
  })
}

module "gateway" {
  count  = var.gateway == null ? 0 : 1
  source = "../config"
  document = merge(local.process, {
    data_dir = "${local.dir}/data"
    gateway = merge(
      { federation = var.federation == null ? null : try(var.federation.advertise, var.federation.listen, local.at.mesh) },
      var.gateway,
      { listen = merge(local.listen, try(var.gateway.listen, {})) },
    )
  })
}
