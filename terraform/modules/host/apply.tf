locals {
  # Everything runs by this: a shell here, or the shell that ssh opens there.
  shell = var.ssh == null ? ["/bin/sh", "-c"] : concat(["ssh", "-o", "BatchMode=yes"], var.ssh.options, [var.ssh.destination])

  control = templatefile("${path.module}/control.sh.tftpl", {
    dir           = local.dir
    unit          = local.unit
    systemd       = local.systemd
    socket        = local.socket
    bundle        = local.bundle
    api           = try(var.federation.api.socket, local.api)
    admin         = try(var.gateway.listen.admin, coalesce(local.at.admin, "127.0.0.1:7481"))
    stop_seconds  = var.stop_seconds
    ready_seconds = var.ready_seconds
  })

  program_sha256 = var.program.path != null ? filesha256(var.program.path) : var.program.sha256
  # A pipe over ssh, a file here.
  upload = var.program.path == null ? "" : var.ssh == null ? "cat '${abspath(var.program.path)}'" : "cat"

  texts = merge(
    var.ca == null ? {} : { ca = module.ca[0].text },
    var.federation == null ? {} : { federation = module.federation[0].text },
    var.gateway == null ? {} : { gateway = module.gateway[0].text },
  )
  # What a running process is made of. Its files are read while it runs.
  versions = { for role, text in local.texts : role => sha256("${text}${local.program_sha256}${local.systemd ? local.units[role] : ""}") }

  # A role's configuration is judged before it takes the place of the last one, which
  # goes on serving where it is refused. The command's length has a bound: 128 KiB.
  configure = { for role, text in local.texts : role => join("\n", concat(
    [
      "set -eu; umask 077; cd '${local.dir}'",
      "printf %s '${base64gzip(text)}' | base64 -d | gunzip > etc/${role}.yaml.new",
      role == "ca" ? ":" : "bin/isthmus validate -c etc/${role}.yaml.new >&2",
      local.systemd ? "chown \"root:$(id -gn '${var.user}')\" etc/${role}.yaml.new; chmod 0640 etc/${role}.yaml.new" : ":",
      "mv etc/${role}.yaml.new etc/${role}.yaml",
    ],
    local.systemd ? [
      "printf %s '${base64gzip(local.units[role])}' | base64 -d | gunzip > /etc/systemd/system/${local.unit}-${role}.service",
      "chmod 0644 /etc/systemd/system/${local.unit}-${role}.service; systemctl daemon-reload",
    ] : [],
    ["bin/control restart ${role}"],
    var.ready_seconds == 0 ? [] : ["bin/control ready ${role}"],
  )) }
}

# The folder. One that is not ours is not touched.
resource "terraform_data" "machine" {
  input            = { shell = local.shell, dir = local.dir }
  triggers_replace = [local.dir, var.supervisor, local.unit, try(var.ssh.destination, "")]

  provisioner "local-exec" {
    interpreter = self.input.shell
    quiet       = true
    command     = <<-SH
      set -eu; umask 077
      if [ -e '${local.dir}' ] && [ "$(cat '${local.dir}/.isthmus' 2>/dev/null)" != '${local.unit}' ] && [ -n "$(ls -A '${local.dir}')" ]; then
        echo 'isthmus: ${local.dir} is there and is not of ${local.unit}: give another directory' >&2
        exit 1
      fi
      mkdir -p '${local.dir}'/bin '${local.dir}'/etc/files '${local.dir}'/run '${local.dir}'/log '${local.dir}'/data
      echo '${local.unit}' > '${local.dir}/.isthmus'
      if [ '${var.supervisor}' = systemd ]; then
        getent passwd '${var.user}' >/dev/null || useradd --system --user-group --no-create-home --home-dir '${local.dir}' --shell /usr/sbin/nologin '${var.user}'
        chmod 0755 '${local.dir}' '${local.dir}/bin' '${local.dir}/etc' '${local.dir}/etc/files'
        chown '${var.user}:' '${local.dir}/run' '${local.dir}/log' '${local.dir}/data'
        chmod 0755 '${local.dir}/run'
      fi
    SH
  }

  provisioner "local-exec" {
    when        = destroy
    interpreter = self.input.shell
    quiet       = true
    command     = "if [ -x '${self.input.dir}/bin/control' ]; then exec '${self.input.dir}/bin/control' destroy; else rm -rf '${self.input.dir}'/bin '${self.input.dir}'/etc '${self.input.dir}'/run '${self.input.dir}'/log '${self.input.dir}'/data '${self.input.dir}/.isthmus' && rmdir '${self.input.dir}'; fi"
  }
}

resource "terraform_data" "control" {
  triggers_replace = [terraform_data.machine.id, sha256(local.control)]

  provisioner "local-exec" {
    interpreter = local.shell
    quiet       = true
    command     = "set -eu; umask 022; printf %s '${base64gzip(local.control)}' | base64 -d | gunzip > '${local.dir}/bin/control.new'; chmod 0755 '${local.dir}/bin/control.new'; mv '${local.dir}/bin/control.new' '${local.dir}/bin/control'"
  }
}

# The program, by way of this machine or straight from where it is published.
resource "terraform_data" "program" {
  triggers_replace = [terraform_data.machine.id, local.program_sha256]

  provisioner "local-exec" {
    interpreter = ["/bin/sh", "-c"]
    quiet       = true
    command = var.program.url != null ? "true" : join(" ", concat(
      var.ssh == null ? ["cat '${abspath(coalesce(var.program.path, "/dev/null"))}' >"] : concat([for word in local.shell : "'${word}'"], ["\"cat >"]),
      ["'${local.dir}/bin/isthmus.fetched'"],
      var.ssh == null ? [] : ["\" < '${abspath(coalesce(var.program.path, "/dev/null"))}'"],
    ))
  }
  provisioner "local-exec" {
    interpreter = local.shell
    quiet       = true
    command = join("\n", [
      "set -eu; cd '${local.dir}/bin'",
      var.program.url == null ? ":" : "curl -sS -f -L --retry 5 -o isthmus.fetched '${coalesce(var.program.url, "-")}'",
      "echo '${local.program_sha256}  isthmus.fetched' | sha256sum -c --quiet -",
      "chmod 0755 isthmus.fetched; mv isthmus.fetched isthmus",
    ])
  }
}

resource "terraform_data" "files" {
  triggers_replace = [terraform_data.machine.id, { for name, text in var.files : name => sha256(text) }]

  provisioner "local-exec" {
    interpreter = local.shell
    quiet       = true
    command = join("\n", concat(
      ["set -eu; umask 022; cd '${local.dir}/etc/files'"],
      [for name, text in var.files : "printf %s '${base64gzip(text)}' | base64 -d | gunzip > '.${name}.new'; mv '.${name}.new' '${name}'"],
      ["for f in *; do case $f in ${join("|", concat([for name in keys(var.files) : "'${name}'"], ["'*'"]))}) ;; *) rm -f \"$f\" ;; esac; done"],
    ))
  }

  lifecycle {
    precondition {
      condition     = sum(concat([0], [for text in values(var.files) : length(base64gzip(text))])) < 100 * 1024
      error_message = "files: all together must be smaller than 100 KiB when packed."
    }
  }
}

# That a role is here at all: its end is a stop in order.
resource "terraform_data" "role" {
  for_each         = toset(keys(local.texts))
  input            = { shell = local.shell, dir = local.dir }
  triggers_replace = [terraform_data.machine.id]
  depends_on       = [terraform_data.control, terraform_data.program]

  provisioner "local-exec" {
    when        = destroy
    interpreter = self.input.shell
    quiet       = true
    command     = "'${self.input.dir}/bin/control' remove ${each.key}"
  }
}

# Each role's configuration and process: a change drains it and starts it anew. One
# after the other, as each needs the one before.
resource "terraform_data" "ca" {
  count            = var.ca == null ? 0 : 1
  triggers_replace = [terraform_data.role["ca"].id, local.versions.ca]
  depends_on       = [terraform_data.files]

  provisioner "local-exec" {
    interpreter = local.shell
    quiet       = true
    command     = local.configure.ca
  }
}

resource "terraform_data" "federation" {
  count            = var.federation == null ? 0 : 1
  triggers_replace = [terraform_data.role["federation"].id, local.versions.federation]
  depends_on       = [terraform_data.files, terraform_data.ca]

  provisioner "local-exec" {
    interpreter = local.shell
    quiet       = true
    command     = local.configure.federation
  }

  lifecycle {
    precondition {
      condition     = length(base64gzip(local.texts.federation)) < 100 * 1024
      error_message = "federation: the file must be smaller than 100 KiB when packed."
    }
  }
}

resource "terraform_data" "gateway" {
  count            = var.gateway == null ? 0 : 1
  triggers_replace = [terraform_data.role["gateway"].id, local.versions.gateway]
  depends_on       = [terraform_data.files, terraform_data.federation]

  provisioner "local-exec" {
    interpreter = local.shell
    quiet       = true
    command     = local.configure.gateway
  }
}
