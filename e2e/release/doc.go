// Package release builds a release twice, from two clones, and uses what came out as
// its users do: packages are installed, the image is unpacked and run, the chart is
// handed to a real API server, units are judged by systemd.
//
// What is built is the last commit: changes that are not committed are not seen.
package release
