# Every value of the document with its path, level by level: Terraform has no recursion.
# path is that of the schema ("federation.peers[].name"), at that of the document
# ("federation.peers[2].name"), under the path of the mapping or list above.
locals {
  schema = jsondecode(file("${path.module}/schema.json"))[var.kind]

  level0 = [{ path = "", at = "", under = "", value = local.document }]

  level1 = flatten([for n in local.level0 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level2 = flatten([for n in local.level1 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level3 = flatten([for n in local.level2 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level4 = flatten([for n in local.level3 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level5 = flatten([for n in local.level4 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level6 = flatten([for n in local.level5 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level7 = flatten([for n in local.level6 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level8 = flatten([for n in local.level7 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level9 = flatten([for n in local.level8 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level10 = flatten([for n in local.level9 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  level11 = flatten([for n in local.level10 : concat(
    [for k, v in try({ for k, v in n.value : k => v if can(keys(n.value)) }, {}) : {
      path = trimprefix(lookup(local.schema, n.path, "") == "map" ? "${n.path}.*" : "${n.path}.${k}", "."), at = trimprefix("${n.at}.${k}", "."), under = n.path, value = v
    }],
    [for i, v in try([for v in n.value : v if !can(keys(n.value))], []) : {
      path = "${n.path}[]", at = "${n.at}[${i}]", under = n.path, value = v
    }],
  )])

  values = concat(local.level1, local.level2, local.level3, local.level4, local.level5, local.level6, local.level7, local.level8, local.level9, local.level10, local.level11)

  # How the kinds look in JSON.
  forms = {
    "text"         = "^\""
    "text or list" = "^[\"\\[]"
    "duration"     = "^\"(0|([0-9.]+(ns|us|ms|s|m|h))+)\"$"
    "number"       = "^-?[0-9]"
    "bool"         = "^(true|false)$"
    "list"         = "^\\["
    "object"       = "^\\{"
    "map"          = "^\\{"
  }
  rules = merge({ for kind in keys(local.forms) : kind => "must be a ${kind}" }, {
    "text"         = "must be text"
    "text or list" = "must be text or a list"
    "duration"     = "must be a number with a unit, such as \"500ms\", \"30s\" or \"1h\""
    "bool"         = "must be true or false"
    "object"       = "must be a mapping"
    "map"          = "must be a mapping"
  })

  # What lies below an unknown key is not reported again.
  unknown = [for v in local.values : v if !contains(keys(local.schema), v.path) && (v.under == "" || contains(["object", "map", "list"], lookup(local.schema, v.under, "")))]
  unlike  = [for v in local.values : v if contains(keys(local.schema), v.path) && !can(regex(local.forms[local.schema[v.path]], jsonencode(v.value)))]

  problems = concat(
    [for v in local.unknown : "${v.at}: is no key of the file; known there: ${join(", ", [
      for path in keys(local.schema) : trimprefix(path, v.under == "" ? "" : "${v.under}.")
      if(v.under == "" || startswith(path, "${v.under}.")) && !can(regex("[.[]", trimprefix(path, v.under == "" ? "" : "${v.under}.")))
    ])}"],
    [for v in local.unlike : "${v.at} = ${substr(jsonencode(v.value), 0, 80)}: ${local.rules[local.schema[v.path]]}"],
  )
}
