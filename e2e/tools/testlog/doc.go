// Command testlog closes a run of .ci/test: it reads the event streams of go
// test -json and prints every figure that the tests measured, each skipped, each
// flaky (failed, and passed when run again) and each failed test with its reason,
// and one closing line
//
//	123 passed, 0 failed, 0 skipped
//
// A figure is a line "figure: TEXT" that a test logs. Each test and subtest
// counts once; so does a package that fails outside its tests (it does not
// compile, TestMain finds a leak). The flag -failed adds failures that no event
// stream shows, such as a step of the linter, so that the closing line never
// says 0 beside a failure.
//
//	go run ./e2e/tools/testlog [-failed N] FILE...
package main
