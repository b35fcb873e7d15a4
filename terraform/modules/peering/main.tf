locals {
  names = keys(var.clusters)

  # What each says about the other. A bundle that both share is left out.
  peers = length(local.names) != 2 ? {} : {
    for n, name in local.names : name => [{
      name     = local.names[1 - n]
      id       = var.clusters[local.names[1 - n]].id
      cloud    = var.clusters[local.names[1 - n]].cloud
      region   = var.clusters[local.names[1 - n]].region
      gateways = var.clusters[local.names[1 - n]].gateways
      asserts  = var.clusters[local.names[1 - n]].asserts
      bundle   = var.clusters[local.names[1 - n]].bundle
    }]
  }

  # By invitation: how a command line of each cluster begins, ready for a shell here,
  # which the shell there reads once more.
  sides   = values(var.operators)
  prefix  = [for o in local.sides : join(" ", [for w in o.shell : "'${w}'"])]
  command = [for o in local.sides : { for verb in ["invite", "accept", "remove"] : verb => "${replace(o.command, "'", "")} peer ${verb} --api ${o.api}" }]
  asserts = [for o in local.sides : join(" ", [for a in o.asserts : "--asserts ${replace(a, "*", "\\*")}"])]
}

resource "terraform_data" "joined" {
  count            = length(local.sides) == 2 ? 1 : 0
  triggers_replace = [for n, o in local.sides : [o.cluster, o.shell, o.api, local.asserts[n]]]
  input = {
    remove = [for n, o in local.sides : "${local.prefix[n]} '${local.command[n].remove} ${local.sides[1 - n].cluster}'"]
  }

  # The token goes from one to the other through a pipe: it is in no list of
  # processes, no log and no state. Accepting again is harmless while it is good; where
  # the inviter cannot be dialed, what comes back is a token to accept there.
  provisioner "local-exec" {
    quiet   = true
    command = length(local.sides) < 2 ? "true" : <<-SH
      set -eu
      # What invite says on the side is for people; where it fails, it says why.
      said=$(mktemp)
      trap 'rm -f "$said"' EXIT
      token=$(${local.prefix[0]} '${local.command[0].invite} --to ${local.sides[1].cluster} ${local.asserts[1]}' 2>"$said") || {
        cat "$said" >&2
        exit 1
      }
      attempt=0
      until back=$(printf %s "$token" | ${local.prefix[1]} '${local.command[1].accept} ${local.asserts[0]} -' 2>&1); do
        attempt=$((attempt + 1))
        if [ "$attempt" -ge 20 ]; then
          printf 'isthmus: ${local.sides[1].cluster} cannot accept the invitation of ${local.sides[0].cluster}: %s\n' "$back" >&2
          exit 1
        fi
        sleep 3
      done
      back=$(printf '%s\n' "$back" | grep '^isthmus-return-1-' || true)
      if [ -n "$back" ]; then
        printf %s "$back" | ${local.prefix[0]} '${local.command[0].accept} ${local.asserts[1]} -' >/dev/null
      fi
    SH
  }

  # Each forgets the other. A host that is gone has forgotten already.
  provisioner "local-exec" {
    when       = destroy
    quiet      = true
    on_failure = continue
    command    = join("\n", [for line in self.input.remove : "${line} >/dev/null || true"])
  }
}
