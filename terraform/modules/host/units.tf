locals {
  # The unit of the packages, with this host's paths in the place of theirs.
  packaged = file("${path.module}/../../../deploy/systemd/isthmus.service")

  # Lines that say where a package keeps things, and which files it needs.
  foreign = "/(?m)^(ConditionPathExists|ExecStartPre|EnvironmentFile|StateDirectory|StateDirectoryMode|RuntimeDirectory|RuntimeDirectoryMode|ConfigurationDirectory|ConfigurationDirectoryMode|Documentation)=.*\n/"

  units = { for role in keys(local.texts) : role => replace(replace(replace(replace(replace(replace(replace(local.packaged,
    local.foreign, ""),
    "/(?m)^Description=.*$/", "Description=Isthmus: ${role} of ${var.cluster.name}"),
    "/(?m)^After=.*$/", "After=network-online.target${role == "ca" ? "" : " ${local.unit}-ca.service"}"),
    "/(?m)^User=.*$/", "User=${var.user}"),
    "/(?m)^Group=.*$/", "Group=${var.user}"),
    "/(?m)^ExecStart=.*$/", "ExecStart=${local.dir}/bin/isthmus ${role == "ca" ? "ca serve" : "run"} -c ${local.dir}/etc/${role}.yaml\nReadWritePaths=${local.dir}/data ${local.dir}/run"),
    "/(?m)^TimeoutStopSec=.*$/", "TimeoutStopSec=${var.stop_seconds}s",
  ) }
}
