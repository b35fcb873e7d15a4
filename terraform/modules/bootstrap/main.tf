locals {
  # One unit for packages and for these modules.
  unit = file("${path.module}/../../../deploy/systemd/isthmus.service")

  script = templatefile("${path.module}/boot.sh.tftpl", {
    cloud         = var.cloud
    claim         = var.claim
    slots         = join("\n", [for name, s in var.slots : "${s.key} ${name} ${s.address}"])
    values        = join("\n", [for k, v in var.values : "${k} ${v}"])
    configuration = base64encode(var.configuration)
    files         = { for name, text in var.files : name => base64encode(text) }
    unit          = base64encode(local.unit)
    setup         = base64encode("set -eu\n${var.setup}\n")
    url           = var.install.url
    sha256        = var.install.sha256
    data_device   = var.data_device
    drain = var.drain == null ? "" : base64encode(templatefile("${path.module}/drain.sh.tftpl", {
      group = var.drain.group
      hook  = var.drain.hook
    }))
    drain_unit = base64encode(file("${path.module}/isthmus-drain.service"))
  })

  boot = "/usr/local/lib/isthmus/boot"
  cloud_init = "#cloud-config\n${yamlencode({
    write_files = [{ path = local.boot, permissions = "0755", content = local.script }]
    runcmd      = [[local.boot]]
  })}"
  user_data = base64gzip(local.cloud_init)
}
