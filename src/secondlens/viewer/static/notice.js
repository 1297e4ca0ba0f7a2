// Browsers do not load modules or data from file: addresses. A classic script runs there and can say so.
if (location.protocol === "file:") {
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("boot").textContent =
      "A browser cannot read this site straight from the disk. Serve its folder, for example with " +
      "“secondlens view FOLDER” or “python -m http.server --directory FOLDER”, and open the address it prints.";
  });
}
