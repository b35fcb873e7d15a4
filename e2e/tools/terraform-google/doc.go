// Command terraform-google is a Terraform provider that has the schema of
// hashicorp/google and nothing behind it: what the maintainers of that provider
// publish for the CDK as @cdktf/provider-google is read and served, so that
// `terraform validate` and `terraform test` with mock_provider judge modules where
// the provider itself cannot be had.
//
// It knows names, types, nesting, and which arguments are required, optional and
// computed. It does not know rules between arguments, allowed values, or anything
// that the cloud would say.
//
// Used by e2e/terraform, which builds it and has npm fetch the package.
package main
